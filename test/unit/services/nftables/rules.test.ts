import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import pino from 'pino';
import { kernelError } from '../../../../src/kernel/errno.ts';
import type { TableChange } from '../../../../src/kernel/netlink/nftables.ts';
import type { NftTable } from '../../../../src/kernel/nft-table.ts';
import { ipv4 } from '../../../../src/model/address.ts';
import { TwillError } from '../../../../src/model/error.ts';
import type { ElementChange } from '../../../../src/model/set-element.ts';
import { packAddress, packPort, packProtocol } from '../../../../src/services/nftables/plan/pack.ts';
import { NftRules } from '../../../../src/services/nftables/rules.ts';
import { emptyTable } from '../../../lab/empty-table.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

function makeRules(table: NftTable): NftRules {
  const log = pino({ level: 'silent' });
  return new NftRules({ table, render: nftOptionsFor(ipv4), node: { name: 'n' }, log });
}

function state(index: number): ReturnType<typeof stateOf> {
  const name = `ns/s${index}`;
  const clusterIP = `10.96.${index >> 8}.${index & 255}`;
  return stateOf(
    serviceObject(name, { clusterIP, ports: [{ name: 'http', port: 80 }] }),
    sliceObject(name, [{ name: 'http', port: 8080 }], [{ ip: '10.244.0.1' }]),
  );
}

const elementsOf = (changes: readonly TableChange[]): ElementChange[] =>
  changes.filter((change): change is ElementChange => 'set' in change);

test('Services that are told while the kernel cannot be read get their rules once it can, though they are not told again', async () => {
  let readable = false;
  const rules = makeRules(
    emptyTable({
      sets: async () => {
        if (!readable) throw new TwillError('timeout', 'no answer');
        return new Set();
      },
    }),
  );
  await assert.rejects(rules.sync([state(1), state(2)], true), { code: 'timeout' });
  readable = true;
  // What has changed meanwhile counts, not what was told first.
  await rules.sync([['ns/s2', { service: undefined, slices: [] }]], true);
  assert.ok(rules.isServed('10.96.0.1'));
  assert.ok(!rules.isServed('10.96.0.2'));
});

test('who may use a load balancer’s address counts also where it is an external address of the same Service', async () => {
  const written: ElementChange[] = [];
  const write = async (changes: readonly TableChange[]): Promise<number> => {
    written.push(...elementsOf(changes));
    return 1;
  };
  const rules = makeRules(emptyTable({ write }));
  const spec = {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.1',
    ports: [{ name: 'http', port: 80 }],
    externalIPs: ['203.0.113.9', '203.0.113.10'],
    loadBalancerSourceRanges: ['198.51.100.0/24'],
  };
  const service = serviceObject('ns/lb', spec, {
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } },
  });
  const slice = sliceObject('ns/lb', [{ name: 'http', port: 8080 }], [{ ip: '10.244.0.1' }]);
  await rules.sync([stateOf(service, slice)], true);
  const keys = written
    .filter(({ set }) => set === 'firewalled')
    .flatMap(({ elements }) => elements.map(({ key }) => key));
  assert.deepEqual(keys, [packAddress('203.0.113.9') + packProtocol('TCP') + packPort(80)]);
});

test('many Services hold nothing else in the process up, and what leads into the rules is written last', async () => {
  const written: string[] = [];
  const write = async (changes: readonly TableChange[]): Promise<number> => {
    for (const { set, elements } of elementsOf(changes)) for (const _ of elements) written.push(set);
    return 1;
  };
  let turns = 0;
  let running = true;
  const others = (): void => {
    turns++;
    if (running) setImmediate(others);
  };
  setImmediate(others);
  // 10,000 take hundreds of milliseconds on the fastest machine; a slice has ten.
  await makeRules(emptyTable({ write })).sync(
    Array.from({ length: 10_000 }, (_, index) => state(index)),
    true,
  );
  running = false;
  assert.ok(turns >= 5, `${turns} turns`);
  const first = written.indexOf('services');
  assert.deepEqual(new Set(written.slice(first)), new Set(['services']));
  assert.equal(written.length - first, 10_000);
});

/** What was written and stands, by set, and what is refused: a kernel in short. */
function fussyTable(refuses: (changes: readonly ElementChange[]) => string | undefined) {
  const stands = new Map<string, Set<string>>();
  const write = async (all: readonly TableChange[]): Promise<number> => {
    const changes = elementsOf(all);
    const errno = refuses(changes);
    if (errno !== undefined) throw kernelError('change elements', constants.errno[errno as 'EINVAL']);
    for (const { set, deletes, elements } of changes) {
      const keys = stands.get(set) ?? new Set();
      stands.set(set, keys);
      for (const { key } of elements) deletes ? keys.delete(key) : keys.add(key);
    }
    return 1;
  };
  return { table: emptyTable({ write }), stands };
}

test('a Service of which the kernel refuses an element goes without rules, named; the others have theirs; it is tried again', async () => {
  let fussy = true;
  const key = packAddress('10.96.0.77') + packProtocol('TCP') + packPort(80);
  const { table, stands } = fussyTable((changes) =>
    fussy &&
    changes.some(({ set, elements }) => set === 'services' && elements.some((one) => one.key === key))
      ? 'EINVAL'
      : undefined,
  );
  const rules = makeRules(table);
  const all = Array.from({ length: 1200 }, (_, index) => state(index));
  await rules.sync(all, true);
  assert.deepEqual([...rules.refusals.keys()], ['ns/s77']);
  assert.match(rules.refusals.get('ns/s77')!, /EINVAL: element 10\.96\.0\.77 \. tcp \. 80 of services/);
  // Nothing of it stays, and all of the others is there.
  assert.deepEqual(
    ['services', 'endpoints-tcp', 'cluster-ips'].map((set) => stands.get(set)!.size),
    [1199, 1199, 1199],
  );
  // One that changes is refused, and found at the full sync that follows.
  fussy = false;
  await rules.sync([all[77]!], true);
  assert.equal(rules.refusals.size, 0);
  assert.equal(stands.get('services')!.size, 1200);
});

test('a kernel that refuses long transactions gets shorter ones, and no Service is blamed', async () => {
  const { table, stands } = fussyTable((changes) =>
    changes.reduce((sum, { elements }) => sum + elements.length, 0) > 100 ? 'ENOBUFS' : undefined,
  );
  const rules = makeRules(table);
  await rules.sync(
    Array.from({ length: 300 }, (_, index) => state(index)),
    true,
  );
  assert.equal(rules.refusals.size, 0);
  assert.equal(stands.get('services')!.size, 300);
});

test('a kernel that refuses everything, or misses what it had, is no Service’s fault', async () => {
  for (const errno of ['EOPNOTSUPP', 'ENOENT']) {
    const rules = makeRules(fussyTable(() => errno).table);
    const all = Array.from({ length: 200 }, (_, index) => state(index));
    await assert.rejects(rules.sync(all, true), new RegExp(errno));
  }
});

test('a kernel that is short of memory for an element is no Service’s fault either', async () => {
  for (const errno of ['ENOMEM', 'ENOBUFS']) {
    const { table } = fussyTable((changes) =>
      changes.some(({ set }) => set === 'services') ? errno : undefined,
    );
    const rules = makeRules(table);
    await assert.rejects(rules.sync([state(1), state(2)], true), new RegExp(errno));
    assert.equal(rules.refusals.size, 0);
  }
});

test('a table is not made anew for what nft refuses once', async () => {
  const applied: string[] = [];
  const table = emptyTable({
    apply: async (document) => {
      applied.push(document);
      if (applied.length === 1) throw new TwillError('invalid', 'nft refused the rules: some race');
    },
  });
  await makeRules(table).sync([state(1)], true);
  assert.doesNotMatch(applied.join(''), /delete table/);
});

test('a table is not made anew where a new one would be refused, too', async () => {
  const applied: string[] = [];
  const refusal = new TwillError('invalid', 'nft refused the rules: no such thing');
  const table = emptyTable({
    apply: async (document) => {
      applied.push(document);
      throw refusal;
    },
  });
  await assert.rejects(makeRules(table).sync([state(1)], true), { code: 'invalid' });
  assert.deepEqual(
    applied.filter((document) => /delete table ip x\n/.test(document)),
    [],
  );
});
