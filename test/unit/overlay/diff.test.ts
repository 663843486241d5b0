import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Lease, parseLease } from '../../../src/leases/plan/lease.ts';
import { diffEntries } from '../../../src/overlay/plan/diff.ts';
import { PeerPlanner } from '../../../src/overlay/plan/planner.ts';
import {
  backendOf,
  changes,
  desired,
  ground,
  lease,
  mapOf,
  own,
  path,
  words,
} from '../../lab/overlay-fixtures.ts';
import { seeded } from '../../lab/random.ts';

describe('desired entries', () => {
  it('VXLAN: neighbour, forwarding entry and onlink route for each peer, none for ourselves', () => {
    assert.deepEqual([...desired([lease(7)]).entries.values()].map(words), [
      'n 10.244.7.0 02:00:00:00:00:07',
      'f 02:00:00:00:00:07 192.0.2.7',
      'h 183764736 via 10.244.7.0 dev 5',
      'r 10.244.7.0/24 via 10.244.7.0 dev 5 onlink nhid 183764736',
    ]);
  });

  it('VXLAN on a kernel without nexthop objects: the route says its gateway itself', () => {
    const paths = [{ ...path, nexthops: false }];
    const planner = new PeerPlanner({ own, paths, backend: backendOf({}), ground });
    assert.deepEqual([...planner.desired(mapOf([own, lease(7)])).values()].map(words), [
      'n 10.244.7.0 02:00:00:00:00:07',
      'f 02:00:00:00:00:07 192.0.2.7',
      'r 10.244.7.0/24 via 10.244.7.0 dev 5 onlink',
    ]);
  });

  it('DirectRouting: a plain route where the peer is on our network, the tunnel elsewhere', () => {
    const direct = backendOf({ DirectRouting: true });
    assert.deepEqual([...desired([lease(7)], direct).entries.values()].map(words), [
      'r 10.244.7.0/24 via 192.0.2.7 dev 2',
    ]);
    assert.equal(desired([lease(7, '198.51.100.7')], direct).entries.size, 4);
  });

  it('host-gw: plain routes, and a reason for a peer that is not directly reachable', () => {
    const result = desired(
      [lease(7, undefined, undefined, 'host-gw'), lease(8, '198.51.100.8', undefined, 'host-gw')],
      { type: 'host-gw' },
    );
    assert.deepEqual([...result.entries.values()].map(words), ['r 10.244.7.0/24 via 192.0.2.7 dev 2']);
    assert.match(result.skipped[0]?.reason ?? '', /198\.51\.100\.8 is not directly reachable/);
  });

  const named = (name: string): Lease =>
    parseLease(
      name,
      '{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:07"}}',
    );
  const skips: [string, Lease, RegExp][] = [
    ['another backend', lease(7, undefined, undefined, 'wireguard'), /backend is wireguard/],
    ['our public IP', lease(7, '192.0.2.9'), /claims our public IP 192\.0\.2\.9/],
    ['a subnet around ours', named('10.244.8.0-23'), /overlaps ours/],
    ["a subnet that is the nodes' own network", named('192.0.2.0-24'), /is not in the pod network/],
    ['a wide subnet', named('64.0.0.0-2'), /64\.0\.0\.0\/2 is not in the pod network 10\.244\.0\.0\/16/],
    [
      'one address of a network of ours',
      named('10.244.200.77-32'),
      /overlaps 10\.244\.200\.0\/24, the network of this node's eth0/,
    ],
    ['a gateway', named('10.244.201.0-24'), /overlaps 10\.244\.201\.1\/32, a gateway of this node/],
    [
      'a server of the leases',
      named('10.244.202.0-24'),
      /overlaps 10\.244\.202\.1\/32, a server that the leases come from/,
    ],
    [
      'another address of ours',
      lease(7, '10.244.200.9'),
      /its public IP 10\.244\.200\.9 is an address of this node/,
    ],
    [
      'our VTEP MAC',
      lease(7, undefined, '02:00:00:00:00:09'),
      /its VTEP MAC 02:00:00:00:00:09 is this node's own/,
    ],
  ];
  for (const [what, peer, reason] of skips) {
    it(`passes over a peer with ${what}, and says why`, () => {
      const { entries, skipped } = desired([peer]);
      assert.equal(entries.size, 0);
      assert.match(skipped.map((one) => one.reason).join('\n'), reason);
    });
  }

  it('does not depend on the order of the leases', () => {
    const clash = [lease(7), { ...lease(8), families: lease(7, '192.0.2.8').families }];
    assert.deepEqual(desired(clash).entries, new Map([...desired(clash.reverse()).entries]));
  });
});

describe('changes', () => {
  it('none where all is right', () => {
    const { entries } = desired([lease(7)]);
    assert.deepEqual(changes(entries, desired([lease(7)]).entries), []);
  });

  it('adds what a route needs before the route, removes it after', () => {
    const { entries } = desired([lease(7)]);
    assert.deepEqual(
      changes(new Map(), entries).map((line) => line.slice(0, 5)),
      ['set n', 'set f', 'set h', 'set r'],
    );
    assert.deepEqual(
      changes(entries, new Map()).map((line) => line.slice(0, 8)),
      ['remove r', 'remove h', 'remove f', 'remove n'],
    );
  });

  it('takes away what a route needed when the route goes another way', () => {
    const direct = desired([lease(7)], backendOf({ DirectRouting: true })).entries;
    assert.deepEqual(
      changes(desired([lease(7)]).entries, direct).map((line) => line.slice(0, 8)),
      ['set r 10', 'remove h', 'remove f', 'remove n'],
    );
  });

  it('replaces the destination of a MAC in one step when a node changes its public IP', () => {
    assert.deepEqual(changes(desired([lease(7)]).entries, desired([lease(7, '192.0.2.77')]).entries), [
      'set f 02:00:00:00:00:07 192.0.2.77',
    ]);
  });

  it('gives a MAC that two nodes have to the first of them', () => {
    const one = desired([lease(7)]).entries;
    const both = desired([lease(7), lease(8, undefined, '02:00:00:00:00:07')]);
    assert.deepEqual(changes(one, both.entries), []);
    assert.match(
      both.skipped[0]?.reason ?? '',
      /its VTEP MAC 02:00:00:00:00:07 is that of 10\.244\.7\.0-24, which had it first/,
    );
  });
});

describe('an update in place', () => {
  const macs = [1, 2, 3, 4].map((byte) => `02:00:00:00:00:0${byte}`);
  const random = seeded(20_261_127);

  it('equals a whole new result after every one of many random changes, clashes and shared MACs included', () => {
    const context = { own, paths: [path], backend: backendOf({}), ground };
    const planner = new PeerPlanner(context);
    const leases = new Map<string, Lease>();
    let entries = planner.desired(leases);
    let inPlace = 0;
    for (let step = 0; step < 2000; step++) {
      for (let count = random(3); count >= 0; count--) {
        const third = random(8);
        const name = `10.244.${third}.0-24`;
        if (random(3) === 0) leases.delete(name);
        else {
          // Mostly a MAC and an IP of its own; now and then another's.
          const odd = random(40) === 0;
          leases.set(
            name,
            lease(
              third,
              `192.0.2.${odd ? random(8) : third * 10 + random(3)}`,
              odd ? macs[random(4)] : undefined,
            ),
          );
        }
      }
      const before = new Map(entries);
      const update = planner.update(leases);
      const whole = new PeerPlanner(context).desired(leases);
      if (update === undefined) entries = planner.desired(leases);
      else {
        inPlace++;
        const short = diffEntries(update.after, update.before).map(
          ({ action, entry }) => `${action} ${entry.key}`,
        );
        const long = diffEntries(whole, before).map(({ action, entry }) => `${action} ${entry.key}`);
        assert.deepEqual(short.sort(), long.sort(), `step ${step}`);
      }
      assert.deepEqual(changes(entries, whole), [], `step ${step}`);
    }
    assert.ok(inPlace > 500 && inPlace < 2000, `${inPlace} in place`);
  });
});
