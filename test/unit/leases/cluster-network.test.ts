import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  kubeadmPodNetworks,
  leavesNetworkOpen,
  withClusterNetworks,
} from '../../../src/leases/plan/cluster-network.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';

const podSubnet = (text: unknown): unknown => ({ networking: { podSubnet: text } });
const families = (text: string, networks: readonly string[]): string[] =>
  parseNetworkConfig(withClusterNetworks(text, networks), false).families.map(({ network }) => network.text);

describe('the pod network of a cluster', () => {
  it('is what kubeadm was told', () => {
    assert.deepEqual(kubeadmPodNetworks(podSubnet('10.244.0.0/16')), ['10.244.0.0/16']);
    assert.deepEqual(kubeadmPodNetworks(podSubnet('10.244.0.0/16, fd00::/48')), [
      '10.244.0.0/16',
      'fd00::/48',
    ]);
  });

  for (const wrong of [
    podSubnet(''),
    podSubnet(undefined),
    podSubnet(5),
    {},
    null,
    'text',
    podSubnet('10.0.0.0'),
  ])
    it(`is not taken from ${JSON.stringify(wrong)}`, () => assert.throws(() => kubeadmPodNetworks(wrong)));

  it('counts where the configuration names none', () => {
    const open = '{"Backend":{"Type":"vxlan"}}';
    assert.deepEqual(families(open, ['10.1.0.0/16']), ['10.1.0.0/16']);
    assert.deepEqual(families(open, ['10.1.0.0/16', 'fd00::/48']), ['10.1.0.0/16', 'fd00::/48']);
    assert.deepEqual(families(open, ['fd00::/48']), ['fd00::/48']);
    assert.deepEqual(families('{"network":"10.2.0.0/16","Backend":{"Type":"vxlan"}}', ['10.1.0.0/16']), [
      '10.2.0.0/16',
    ]);
    const four = '{"EnableIPv6":false,"Backend":{"Type":"vxlan"}}';
    assert.deepEqual(families(four, ['10.1.0.0/16', 'fd00::/48']), ['10.1.0.0/16']);
    const six =
      '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd01::/48","Backend":{"Type":"host-gw"}}';
    assert.deepEqual(families(six, ['10.1.0.0/16']), ['fd01::/48']);
  });

  it('what is no configuration is left to whoever reads it', () => {
    for (const text of ['', '[]', '{', 'null']) {
      assert.equal(leavesNetworkOpen(text), false);
      assert.equal(withClusterNetworks(text, ['10.1.0.0/16']), text);
    }
  });
});
