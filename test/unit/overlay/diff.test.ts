import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Lease, parseLease } from '../../../src/leases/plan/lease.ts';
import { type Backend, parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { ipv4, parseAddress, parsePrefix } from '../../../src/model/address.ts';
import {
  ActualEntries,
  type ListedFdbEntry,
  type ListedNeighbour,
  type ListedRoute,
  type Ownership,
} from '../../../src/overlay/plan/actual.ts';
import { diffEntries } from '../../../src/overlay/plan/diff.ts';
import type { EntryMap, OverlayEntry } from '../../../src/overlay/plan/entries.ts';
import { makeGround } from '../../../src/overlay/plan/ground.ts';
import type { FamilyPath } from '../../../src/overlay/plan/peer.ts';
import { PeerPlanner } from '../../../src/overlay/plan/planner.ts';
import { seeded } from '../../lab/random.ts';

const backendOf = (more: object): Backend =>
  parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', ...more } }))
    .backend;
const path: FamilyPath = {
  family: ipv4,
  vxlan: 5,
  nexthops: true,
  underlay: 2,
  networks: [parsePrefix('192.0.2.0/24')],
  onLink: ({ text }) => (text.startsWith('192.0.2.') ? 2 : undefined),
  reach: 0,
};
const lease = (
  third: number,
  ip = `192.0.2.${third}`,
  mac = `02:00:00:00:00:0${third}`,
  type = 'vxlan',
): Lease =>
  parseLease(
    `10.244.${third}.0-24`,
    `{"PublicIP":"${ip}","BackendType":"${type}","BackendData":{"VtepMAC":"${mac}"}}`,
  );
const own = lease(9);
const ground = makeGround(
  [parsePrefix('10.244.0.0/16')],
  {
    links: [{ index: 2, name: 'eth0' }],
    addresses: [
      { index: 2, address: parseAddress('192.0.2.9'), length: 24 },
      { index: 2, address: parseAddress('10.244.200.9'), length: 24 },
    ],
    gateways: [parseAddress('10.244.201.1')],
    servers: [parseAddress('10.244.202.1')],
  },
  () => false,
);
const mapOf = (leases: readonly Lease[]): Map<string, Lease> => new Map(leases.map((one) => [one.name, one]));
const desired = (leases: Lease[], backend = backendOf({})) => {
  const planner = new PeerPlanner({ own, paths: [path], backend, ground });
  const entries = planner.desired(mapOf([own, ...leases]));
  return { entries, skipped: planner.skipped() };
};
const words = (entry: OverlayEntry): string =>
  entry.kind === 'route'
    ? `${entry.key} via ${entry.gateway?.text} dev ${entry.device}${entry.onlink ? ' onlink' : ''}${entry.nexthop === undefined ? '' : ` nhid ${entry.nexthop}`}`
    : entry.kind === 'nexthop'
      ? `${entry.key} via ${entry.gateway.text} dev ${entry.device}`
      : entry.kind === 'neighbour'
        ? `${entry.key} ${entry.mac}`
        : `f ${entry.mac} ${entry.destination.text}`;
const changes = (from: EntryMap, to: EntryMap): string[] =>
  diffEntries(to, from).map(({ action, entry }) => `${action} ${words(entry)}`);

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

describe('what of the kernel is ours', () => {
  const route = (text: string, more: Partial<ListedRoute>) => ({
    destination: parsePrefix(text),
    gateway: parseAddress('10.244.7.0'),
    device: 5,
    onlink: true,
    protocol: 3,
    metric: 0,
    scope: 0,
    source: undefined,
    nexthop: undefined,
    ...more,
  });
  const ownership = { devices: new Set([5]), networks: [parsePrefix('10.244.0.0/16')] };
  const keys = (routes: ListedRoute[], wanted: EntryMap = new Map()): string[] => {
    const actual = new ActualEntries(ownership, wanted);
    for (const listed of routes) actual.route(listed);
    return [...actual.entries.keys()];
  };

  it('routes with our mark, and those of an earlier flanneld through our device', () => {
    assert.deepEqual(
      keys([route('10.244.7.0/24', {}), route('10.244.8.0/24', { device: 2, protocol: 80 })]),
      ['r 10.244.7.0/24', 'r 10.244.8.0/24'],
    );
  });

  it("not the kernel's, not those outside the pod network, not others' through other devices", () => {
    assert.deepEqual(
      keys([
        route('10.244.7.0/24', { protocol: 2 }),
        route('203.0.113.0/24', {}),
        route('10.0.0.0/8', {}),
        route('10.244.9.0/24', { device: 2 }),
      ]),
      [],
    );
  });

  it('at adoption, routes through the underlay that are in every field as flanneld writes them', () => {
    const adopting: Ownership = {
      ...ownership,
      adoption: { underlay: 2, subnets: [parsePrefix('10.244.9.0/24')] },
    };
    const flannels = { device: 2, onlink: false, gateway: parseAddress('192.0.2.7') };
    const found = (routes: ListedRoute[]): string[] => {
      const actual = new ActualEntries(adopting, new Map());
      for (const listed of routes) actual.route(listed);
      return [...actual.entries.keys()];
    };
    const stale = route('10.244.7.0/24', flannels);
    assert.deepEqual(found([stale]), ['r 10.244.7.0/24']);
    const others: Partial<ListedRoute>[] = [
      { protocol: 4 },
      { protocol: 186 },
      { device: 3 },
      { gateway: undefined, scope: 253 },
      { onlink: true },
      { metric: 100 },
      { source: parseAddress('192.0.2.9') },
      { destination: parsePrefix('10.244.7.0/25') },
      { destination: parsePrefix('10.9.7.0/24') },
    ];
    for (const change of others)
      assert.deepEqual(
        found([route('10.244.7.0/24', { ...flannels, ...change })]),
        [],
        JSON.stringify(Object.keys(change)),
      );
    const marked = route('10.244.8.0/24', { ...flannels, protocol: 80 });
    for (const routes of [
      [stale, marked],
      [marked, stale],
    ])
      assert.deepEqual(found(routes), ['r 10.244.8.0/24'], 'we have run here since');
  });

  it('a foreign route that stands where ours should', () => {
    const wanted = desired([lease(7)]).entries;
    const found = keys([route('10.244.7.0/24', { device: 2 })], wanted);
    assert.deepEqual(found, ['r 10.244.7.0/24']);
  });

  it('a route by nexthop is as it should be where the kernel lists its nexthop alone', () => {
    const { entries } = desired([lease(7)]);
    const actual = new ActualEntries(ownership, entries);
    const bare = { gateway: undefined, device: 0, onlink: false, protocol: 80, nexthop: 183764736 };
    actual.route(route('10.244.7.0/24', bare));
    assert.deepEqual(
      changes(actual.entries, entries).filter((line) => line.includes(' r ')),
      [],
    );
  });

  it('not entries that the kernel made itself', () => {
    const neighbours: ListedNeighbour[] = [
      { device: 5, address: parseAddress('10.244.7.0'), mac: '02:00:00:00:00:07', state: 0x04 },
      { device: 5, address: parseAddress('10.244.8.0'), mac: '02:00:00:00:00:08', state: 0x80 },
    ];
    const forwarding: ListedFdbEntry[] = [
      { device: 5, mac: '02:00:00:00:00:07', destination: parseAddress('192.0.2.7'), state: 0x02 },
      { device: 5, mac: '02:00:00:00:00:08', destination: parseAddress('192.0.2.8'), state: 0x80 },
    ];
    const actual = new ActualEntries(ownership, new Map());
    for (const entry of neighbours) actual.neighbour(entry);
    for (const entry of forwarding) actual.fdb(entry);
    assert.deepEqual([...actual.entries.keys()], ['n 10.244.8.0', 'f 02:00:00:00:00:08 ipv4']);
  });
});
