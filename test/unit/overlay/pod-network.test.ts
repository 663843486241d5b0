import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { parsePrefix } from '../../../src/model/address.ts';
import { follows, podNetworkOf } from '../../../src/overlay/plan/pod-network.ts';

const config = (network: string, v6?: string) =>
  parseNetworkConfig(
    JSON.stringify({
      Network: network,
      ...(v6 === undefined ? {} : { EnableIPv6: true, IPv6Network: v6 }),
      Backend: { Type: 'host-gw' },
    }),
  );
const both = { PublicIP: '192.0.2.1', PublicIPv6: '2001:db8::1', BackendType: 'host-gw' };
const one = parseLease('10.244.7.0-24', '{"PublicIP":"192.0.2.1","BackendType":"host-gw"}');
const two = parseLease('10.244.7.0-24&fd00:244:0:7::-64', JSON.stringify(both));

test('a lease follows a configuration when it has a subnet in the network of each family', () => {
  const cases = [
    ['one family', one, config('10.244.0.0/16'), true],
    ['another network', one, config('10.99.0.0/16'), false],
    ['a wider network', one, config('10.0.0.0/8'), true],
    ['a narrower one that it is not in', one, config('10.244.128.0/17'), false],
    ['a family that came new', one, config('10.244.0.0/16', 'fd00:244::/48'), false],
    ['both families', two, config('10.244.0.0/16', 'fd00:244::/48'), true],
    ['another network of one family', two, config('10.244.0.0/16', 'fd00:99::/48'), false],
    ['a family that went', two, config('10.244.0.0/16'), true],
  ] as const;
  for (const [what, lease, network, is] of cases) assert.equal(follows(lease, network), is, what);
});

test('pods get what the lease has of the families of the configuration', () => {
  const underlay = {
    name: 'eth0',
    index: 2,
    mtu: 1400,
    addresses: new Map(),
    networks: [parsePrefix('192.0.2.0/24')],
    carries: ['ipv4', 'ipv6'],
    why: '',
  } as const;
  const pods = (...given: Parameters<typeof config>) => {
    const { mtu, families } = podNetworkOf(two, config(...given), underlay);
    return [
      mtu,
      ...families.map(({ network, subnet, gateway }) => [network, subnet, gateway].map((it) => it.text)),
    ];
  };
  const v4 = ['10.244.0.0/16', '10.244.7.0/24', '10.244.7.1'];
  assert.deepEqual(pods('10.244.0.0/16'), [1400, v4]);
  assert.deepEqual(pods('10.244.0.0/16', 'fd00:244::/48'), [
    1400,
    v4,
    ['fd00:244::/48', 'fd00:244:0:7::/64', 'fd00:244:0:7::1'],
  ]);
});
