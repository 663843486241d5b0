import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pino from 'pino';
import { type ConntrackKnobs, tuneConntrack } from '../../../src/services/conntrack-tuning.ts';
import { type ConntrackWishes, connectionLimit } from '../../../src/services/plan/conntrack-settings.ts';
import { countCores } from '../../../src/services/plan/cores.ts';

const log = pino({ level: 'silent' });
const none: ConntrackWishes = {
  maxPerCore: 32_768,
  min: 131_072,
  tcpEstablishedSeconds: 0,
  tcpCloseWaitSeconds: 0,
  tcpBeLiberal: false,
  udpSeconds: 0,
  udpStreamSeconds: 0,
};

describe('the limit of connections:', () => {
  const rows: readonly [what: string, wishes: Partial<ConntrackWishes>, cores: number, limit: number][] = [
    ['the minimum on a small node', {}, 2, 131_072],
    ['by the cores on a larger one', {}, 8, 262_144],
    ['a million for cores at most', {}, 128, 1_048_576],
    ['a minimum above that counts', { min: 2_000_000 }, 128, 2_000_000],
    ['none', { maxPerCore: 0 }, 8, 0],
  ];
  for (const [what, wishes, cores, limit] of rows)
    test(what, () => assert.equal(connectionLimit({ ...none, ...wishes }, cores), limit));
});

test('cores are counted in the kernel’s list', () => {
  for (const [list, count] of [
    ['0\n', 1],
    ['0-3\n', 4],
    ['0-3,6,8-9\n', 7],
    ['\n', 0],
    ['x', 0],
  ] as const)
    assert.equal(countCores(list), count, list);
});

/** Settings in memory; those in `fixed` cannot be written. */
function knobs(
  settings: Record<string, number>,
  fixed: readonly string[] = [],
): ConntrackKnobs & { sizes: number[] } {
  const sizes: number[] = [];
  return {
    sizes,
    read: (name) => settings[name],
    write: (name, value) => {
      if (fixed.includes(name)) throw Object.assign(new Error('no'), { code: 'EACCES' });
      settings[name] = value;
    },
    buckets: () => settings.buckets,
    setBuckets: (count) => sizes.push(count),
    cores: () => 8,
  };
}

test('the limit is raised, with its hash table, and never lowered', () => {
  const settings = { nf_conntrack_max: 65_536, buckets: 16_384 };
  const small = knobs(settings);
  assert.deepEqual(tuneConntrack(none, log, small), []);
  assert.equal(settings.nf_conntrack_max, 262_144);
  assert.deepEqual(small.sizes, [65_536]);
  const large = knobs({ nf_conntrack_max: 1_000_000, buckets: 250_000 }, ['nf_conntrack_max']);
  assert.deepEqual(tuneConntrack(none, log, large), []);
  assert.deepEqual(large.sizes, []);
});

test('a limit that cannot be raised leaves the hash table alone, and what is not there is named', () => {
  const fixed = knobs({ nf_conntrack_max: 65_536, buckets: 16_384 }, ['nf_conntrack_max']);
  const wishes = { ...none, tcpCloseWaitSeconds: 3600 };
  assert.deepEqual(tuneConntrack(wishes, log, fixed), [
    'nf_conntrack_max=262144 (EACCES)',
    'nf_conntrack_tcp_timeout_close_wait=3600 (the kernel has no such setting)',
  ]);
  assert.deepEqual(fixed.sizes, []);
});

test('timeouts are set to what is asked for, up or down, and 0 leaves them', () => {
  const settings = { nf_conntrack_tcp_timeout_established: 432_000, nf_conntrack_udp_timeout: 30 };
  const wishes = { ...none, maxPerCore: 0, tcpEstablishedSeconds: 86_400 };
  assert.deepEqual(tuneConntrack(wishes, log, knobs(settings)), []);
  assert.deepEqual(settings, { nf_conntrack_tcp_timeout_established: 86_400, nf_conntrack_udp_timeout: 30 });
});
