import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Claim } from '../../../src/leases/plan/claim.ts';
import {
  assertedAgain,
  type HeldLease,
  isContested,
  keeping,
  type LeaseKey,
  noAssertions,
  yieldsTo,
} from '../../../src/leases/plan/keeping.ts';
import { formatLeaseValue, parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { ipv4, parseAddress } from '../../../src/model/address.ts';

const name = '10.244.7.0-24';
const config = parseNetworkConfig('{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}');
const other = parseNetworkConfig('{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan"}}');

function valueWith(ip: string, mac = '02:00:00:00:00:01'): string {
  const value = { PublicIP: ip, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } };
  return formatLeaseValue(parseLease(name, JSON.stringify(value)));
}

function claim(mac = '02:00:00:00:00:01', limits = config): Claim {
  const publicIps = [parseAddress('192.0.2.1')];
  return { config: limits, identity: { publicIps, vtepMacs: new Map([[ipv4.name, mac]]), previous: [] } };
}

const ours = valueWith('192.0.2.1');
const key = (value: string, created: number, revision: number): LeaseKey => ({
  name,
  value,
  created,
  revision: BigInt(revision),
});

const held: HeldLease = {
  record: key(ours, 10, 20),
  lease: parseLease(name, ours),
  unprovenSince: undefined,
  madeAt: undefined,
  sure: false,
  asserted: noAssertions,
};

test('what becomes of a lease that we hold follows from what stands in its place', () => {
  const [twins, anothers] = [valueWith('192.0.2.1', '02:00:00:00:00:99'), valueWith('192.0.2.9')];
  const changed = claim('02:00:00:00:00:02');
  const wanted = valueWith('192.0.2.1', '02:00:00:00:00:02');
  const cases: readonly (readonly [
    what: string,
    key: LeaseKey | undefined,
    wish: Claim,
    lives: boolean,
    is: string,
  ])[] = [
    ['as we wrote it', key(ours, 10, 20), claim(), true, 'confirm'],
    ['written anew, the same', key(ours, 10, 30), claim(), true, 'confirm'],
    ['in other words', key(ours.replace('{', '{ '), 10, 30), claim(), true, 'confirm'],
    ['not as it should be any more', key(ours, 10, 20), changed, true, 'update'],
    ['by somebody as it should be', key(wanted, 10, 30), changed, true, 'confirm'],
    ['gone', undefined, claim(), true, 'retake'],
    ['gone, its time, too', undefined, claim(), false, 'lost its key was deleted or has expired'],
    [
      'gone, and of no use',
      undefined,
      claim(undefined, other),
      true,
      'lost its key was deleted or has expired',
    ],
    ['of no use', key(ours, 10, 20), claim(undefined, other), true, 'replace'],
    ['overwritten, and of no use', key(anothers, 10, 30), claim(undefined, other), true, 'replace'],
    ['overwritten by who has our address', key(twins, 10, 30), claim(), true, 'dispute'],
    ['overwritten by another', key(anothers, 10, 30), claim(), true, 'dispute'],
    ['overwritten in an etcd that counts anew', key(anothers, 2, 3), claim(), true, 'dispute'],
    ['overwritten with rubbish', key('{', 10, 30), claim(), true, 'dispute'],
    ['overwritten after our time, in our key', key(anothers, 10, 30), claim(), false, 'dispute'],
    [
      'made anew after our time',
      key(anothers, 30, 30),
      claim(),
      false,
      'lost another node holds its key now',
    ],
    ['made anew after our time, by a twin', key(twins, 30, 30), claim(), false, 'dispute'],
    ['made anew within our time', key(anothers, 30, 30), claim(), true, 'dispute'],
  ];
  for (const [what, stands, wish, lives, is] of cases) {
    const step = keeping(held, stands, wish, lives);
    assert.equal(step.kind === 'lost' ? `lost ${step.why}` : step.kind, is, what);
  }
});

test('a lease is given up where another has the better right to it', () => {
  const [twins, anothers] = [valueWith('192.0.2.1', '02:00:00:00:00:99'), valueWith('192.0.2.9')];
  const now = 1_000_000;
  const often = { count: 20, at: now - 500, first: now - 10_000 };
  const cases: readonly (readonly [what: string, value: string, is: Partial<HeldLease>, yields: boolean])[] =
    [
      ['taken over a moment ago', twins, { unprovenSince: now - 59_000 }, true],
      ['taken over long ago', twins, { unprovenSince: now - 61_000 }, false],
      ['taken over a moment ago, and another’s', anothers, { unprovenSince: now - 59_000 }, false],
      ['taken over a moment ago, and rubbish', '{', { unprovenSince: now - 59_000 }, false],
      ['found, and disputed', twins, {}, false],
      ['found, and disputed often', twins, { asserted: often }, true],
      ['ours beyond doubt, and disputed often', twins, { asserted: often, sure: true }, false],
      ['found, and another’s often', anothers, { asserted: often }, false],
      ['made, and another’s often at once', anothers, { asserted: often, madeAt: now - 11_000 }, true],
      ['made, and another’s often later', anothers, { asserted: often, madeAt: now - 13_000 }, false],
      [
        'made, and another’s a few times',
        anothers,
        { asserted: { ...often, count: 19 }, madeAt: now - 11_000 },
        false,
      ],
    ];
  for (const [what, value, is, yields] of cases)
    assert.equal(yieldsTo(key(value, 10, 30), held.lease, { ...held, ...is }, now), yields, what);
});

test('a lease is written back at once for a few times, until there was peace for long', () => {
  let asserted = noAssertions;
  const waits: boolean[] = [];
  for (let now = 1000; now <= 5000; now += 1000) {
    const again = assertedAgain(asserted, now);
    ({ asserted } = again);
    waits.push(again.waits);
  }
  assert.deepEqual(waits, [false, false, false, true, true]);
  assert.deepEqual(asserted, { count: 5, at: 5000, first: 1000 });
  assert.equal(isContested(asserted, 65_000), true);
  assert.equal(isContested(asserted, 65_001), false);
  assert.equal(isContested({ ...asserted, count: 3 }, 5000), false);
  assert.deepEqual(assertedAgain(asserted, 605_000), {
    asserted: { count: 1, at: 605_000, first: 605_000 },
    waits: false,
  });
});
