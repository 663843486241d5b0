import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Lease, makeLease } from '../../../src/leases/plan/lease.ts';
import type { Backend } from '../../../src/leases/plan/network-config.ts';
import {
  type MeshPath,
  type MeshView,
  mayAsk,
  ownPlaces,
  partnerNames,
} from '../../../src/mesh/plan/places.ts';
import { ipv4, ipv6, parseAddress, parsePrefix } from '../../../src/model/address.ts';

function lease(index: number, backend = 'vxlan'): Lease {
  const data = { VNI: 1, VtepMAC: `02:00:00:00:00:0${index}` };
  return makeLease(`node${index}`, [`10.244.${index}.0/24`, `fd00:244:${index}::/64`].map(parsePrefix), {
    PublicIP: `192.0.2.${index}`,
    PublicIPv6: `2001:db8::${index}`,
    BackendType: backend,
    ...(backend === 'vxlan' ? { BackendData: data, BackendV6Data: data } : {}),
  });
}

const backends: Readonly<Record<string, Backend>> = {
  vxlan: { type: 'vxlan' } as Backend,
  'host-gw': { type: 'host-gw' } as Backend,
  alloc: { type: 'alloc' } as Backend,
};

const view = (type = 'vxlan', extra: Partial<MeshView> = {}): MeshView => {
  const leases = [1, 2, 3].map((index) => lease(index, type));
  return {
    own: leases[0]!,
    leases: new Map(leases.map((one) => [one.name, one])),
    backend: backends[type]!,
    families: [ipv4, ipv6],
    skipped: [],
    local: new Set(['192.0.2.1', '2001:db8::1']),
    underlay: new Map([
      ['ipv4', parseAddress('192.0.2.1')],
      ['ipv6', parseAddress('2001:db8::1')],
    ]),
    largest: 1450,
    ...extra,
  };
};
const texts = (from: MeshView): string[] =>
  ownPlaces(from).map(({ path, address }) => `${path} ${address.text}`);

describe('where a node answers, and whom it asks', () => {
  it('is at its public IPs, and at addresses that only the way of pods leads to', () => {
    const outer = (index: number): string => ['underlay 192.0.2.1', 'underlay 2001:db8::1'][index]!;
    assert.deepEqual(texts(view()), [outer(0), 'overlay 10.244.1.0', outer(1), 'overlay fd00:244:1::']);
    assert.deepEqual(texts(view('host-gw')), [
      outer(0),
      'overlay 10.244.1.1',
      outer(1),
      'overlay fd00:244:1::1',
    ]);
    assert.deepEqual(texts(view('alloc')), []);
    assert.deepEqual(texts(view('vxlan', { families: [ipv4] })), [outer(0), 'overlay 10.244.1.0']);
  });

  it('is at its own address where the public IP is that of a machine that translates', () => {
    const inside = new Map([['ipv4', parseAddress('10.0.0.5')]] as const);
    const behind = view('vxlan', { local: new Set(['10.0.0.5']), underlay: inside, families: [ipv4] });
    assert.deepEqual(texts(behind), ['underlay 10.0.0.5', 'overlay 10.244.1.0']);
    assert.deepEqual(texts({ ...behind, underlay: new Map() }), ['overlay 10.244.1.0']);
  });

  it('asks all nodes but itself, those that have no routes, and those of another backend', () => {
    assert.deepEqual(partnerNames(view()), ['node2', 'node3']);
    assert.deepEqual(partnerNames(view('vxlan', { skipped: [{ name: 'node2' }] })), ['node3']);
    assert.deepEqual(partnerNames(view('vxlan', { backend: backends['host-gw']! })), []);
    assert.deepEqual(partnerNames(view('alloc')), []);
  });

  it('answers nodes alone, each where it asks from', () => {
    const cases: readonly [MeshPath, string, boolean][] = [
      ['underlay', '192.0.2.2', true],
      ['underlay', '2001:db8::3', true],
      ['overlay', '10.244.2.0', true],
      ['overlay', 'fd00:244:3::', true],
      // Itself, a stranger, a pod, and a node's address of the other way.
      ['underlay', '192.0.2.1', false],
      ['overlay', '10.244.1.0', false],
      ['underlay', '203.0.113.9', false],
      ['overlay', '10.244.2.5', false],
      ['underlay', '10.244.2.0', false],
      ['overlay', '192.0.2.2', false],
      ['underlay', 'fe80::1%eth0', false],
    ];
    for (const [path, from, allowed] of cases)
      assert.equal(mayAsk(view(), path, from.includes(':') ? ipv6 : ipv4, from), allowed, `${path} ${from}`);
    assert.ok(mayAsk(view('host-gw'), 'overlay', ipv4, '10.244.2.1'));
    assert.ok(!mayAsk(view('host-gw'), 'overlay', ipv4, '10.244.2.0'));
  });
});
