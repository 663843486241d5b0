import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { leaseConflicts } from '../../../src/leases/plan/conflicts.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { type Family, ipv4, ipv6, parseAddress } from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';
import { domainOf, type HostNetwork, type HostPath } from '../../../src/overlay/plan/host-network.ts';
import { chooseUnderlay, type UnderlayOptions } from '../../../src/overlay/plan/underlay.ts';

const link = (index: number, name: string) => ({
  index,
  name,
  kind: undefined,
  mtu: 1500,
  up: true,
});
const address = (index: number, text: string, length = 24) => ({
  index,
  address: parseAddress(text),
  length,
  scope: 0,
  flags: 0,
});
const path = (device: number, family: Family, more: Partial<HostPath> = {}): HostPath => ({
  family,
  device,
  devices: [device],
  source: undefined,
  preferred: undefined,
  ...more,
});
const host: HostNetwork = {
  links: [link(1, 'lo'), link(2, 'eth0'), link(3, 'eth1'), link(4, 'eth2')],
  addresses: [
    address(2, '192.0.2.11'),
    address(2, '2001:db8::11', 64),
    address(3, '198.51.100.11'),
    address(3, '198.51.100.12'),
    address(4, '203.0.113.11'),
    address(4, '2001:db8:3::11', 64),
  ],
  outside: [path(2, ipv4), path(4, ipv6)],
  canReach: path(4, ipv4),
};
const wish = (more: Partial<UnderlayOptions> = {}): UnderlayOptions => ({
  families: [ipv4],
  interfaces: [],
  interfacePatterns: [],
  canReach: undefined,
  publicIps: [],
  internalIps: [],
  inUse: { addresses: [], device: undefined },
  ...more,
});

describe('underlay interface', () => {
  const cases: [string, Partial<UnderlayOptions>, string, string][] = [
    ['that by which packets to the outside leave', {}, 'eth0', '192.0.2.11'],
    ['--iface by name', { interfaces: ['eth1'] }, 'eth1', '198.51.100.11'],
    ['--iface by address', { interfaces: ['198.51.100.12'] }, 'eth1', '198.51.100.12'],
    ['the first --iface that is there', { interfaces: ['eth9', 'eth2'] }, 'eth2', '203.0.113.11'],
    ['--iface-regex by address', { interfacePatterns: ['^203\\.'] }, 'eth2', '203.0.113.11'],
    ['--iface-regex by name', { interfacePatterns: ['th[12]'] }, 'eth1', '198.51.100.11'],
    [
      '--iface before --iface-regex',
      { interfaces: ['eth2'], interfacePatterns: ['eth1'] },
      'eth2',
      '203.0.113.11',
    ],
    ['--iface-can-reach', { canReach: '203.0.113.1' }, 'eth2', '203.0.113.11'],
    ['that of the public IP', { publicIps: [parseAddress('198.51.100.12')] }, 'eth1', '198.51.100.12'],
    [
      "the public IP before the node's InternalIP",
      { publicIps: [parseAddress('198.51.100.12')], internalIps: [parseAddress('198.51.100.11')] },
      'eth1',
      '198.51.100.12',
    ],
    [
      "--iface by address before the node's InternalIP",
      { interfaces: ['198.51.100.12'], internalIps: [parseAddress('198.51.100.11')] },
      'eth1',
      '198.51.100.12',
    ],
    [
      "that of the node's InternalIP",
      { internalIps: [parseAddress('203.0.113.11')] },
      'eth2',
      '203.0.113.11',
    ],
  ];
  for (const [what, options, name, ip] of cases) {
    it(`is ${what}`, () => {
      const found = chooseUnderlay(host, wish(options));
      assert.deepEqual([found.name, found.addresses.get('ipv4')?.text], [name, ip]);
      assert.notEqual(found.why, '');
    });
  }

  it('has an address of every family', () => {
    const found = chooseUnderlay(host, wish({ families: [ipv4, ipv6], interfacePatterns: ['eth'] }));
    assert.deepEqual(
      [...found.addresses.values()].map(({ text }) => text),
      ['192.0.2.11', '2001:db8::11'],
    );
    assert.throws(
      () => chooseUnderlay(host, wish({ families: [ipv4, ipv6], interfaces: ['eth1'] })),
      (error) =>
        isTwillError(error, 'unavailable') &&
        /--iface eth1; there are: .*eth1 \(198\.51\.100\.11/.test(error.message),
    );
  });
});

describe('addresses of another scope than universe', () => {
  const scoped = (text: string, scope: number) => ({ ...address(2, text), scope });
  const only = (...addresses: HostNetwork['addresses']): HostNetwork => ({ ...host, addresses });
  const chosen = (network: HostNetwork, families: readonly Family[] = [ipv4]) =>
    [...chooseUnderlay(network, wish({ families, interfaces: ['eth0'] })).addresses.values()].map(
      ({ text }) => text,
    );

  it('one of scope link is taken where there is no other, not before a deprecated one', () => {
    assert.deepEqual(chosen(only(scoped('192.0.2.11', 253))), ['192.0.2.11']);
    const deprecated = { ...address(2, '198.51.100.9'), flags: 0x20 };
    assert.deepEqual(chosen(only(scoped('169.254.7.7', 253), deprecated)), ['198.51.100.9']);
  });

  it("IPv6's site-local ones are addresses like others", () => {
    assert.deepEqual(chosen(only(scoped('fec0::15', 200)), [ipv6]), ['fec0::15']);
  });
});

it('devices of a VRF, and the VRF itself, have its table', () => {
  const links = [
    { index: 2, kind: undefined, master: 9 },
    { index: 3, kind: undefined, master: 8 },
    { index: 4, kind: 'dummy', master: 0 },
    { index: 8, kind: 'bridge', master: 0 },
    { index: 9, kind: 'vrf', master: 0 },
  ];
  assert.deepEqual(
    [2, 9, 3, 4, 7].map((index) => domainOf(links, index)),
    [9, 9, undefined, undefined, undefined],
  );
});

describe('conflicts between leases', () => {
  const lease = (name: string, ip: string) =>
    parseLease(
      name,
      `{"PublicIP":"${ip}","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"}}`,
    );

  it('are found, whichever subnets lie between, and name both', () => {
    const found = leaseConflicts([
      lease('10.244.0.0-22', '192.0.2.1'),
      lease('10.244.1.0-24', '192.0.2.2'),
      lease('10.244.3.0-24', '192.0.2.3'),
      lease('10.244.4.0-24', '192.0.2.3'),
    ]);
    assert.deepEqual(
      found.map(({ kind, leases }) => [kind, ...leases]),
      [
        ['public-ip', '10.244.3.0-24', '10.244.4.0-24'],
        ['subnet', '10.244.0.0-22', '10.244.1.0-24'],
        ['subnet', '10.244.0.0-22', '10.244.3.0-24'],
      ],
    );
    assert.deepEqual(
      leaseConflicts([lease('10.244.1.0-24', '192.0.2.1'), lease('10.244.2.0-24', '192.0.2.2')]),
      [],
    );
  });

  it('are found among subnets of one size, as nodes of Kubernetes can have them', () => {
    const subnet = '10.244.1.0-24';
    const nodes = [
      { ...lease(subnet, '192.0.2.2'), name: 'b' },
      { ...lease('10.244.2.0-24', '192.0.2.3'), name: 'c' },
      { ...lease(subnet, '192.0.2.1'), name: 'a' },
    ];
    assert.deepEqual(
      leaseConflicts(nodes.values()).map(({ kind, leases }) => [kind, ...leases]),
      [['subnet', 'a', 'b']],
    );
    const shared = [lease('10.244.2.0-24', '192.0.2.1'), lease('10.244.1.0-24', '192.0.2.1')];
    assert.deepEqual(
      leaseConflicts(shared).map(({ kind, leases }) => [kind, ...leases]),
      [['public-ip', '10.244.1.0-24', '10.244.2.0-24']],
    );
  });
});
