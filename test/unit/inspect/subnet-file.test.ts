import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wantedSubnetFile } from '../../../src/inspect/plan/subnet-file.ts';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';

const networkOf = (v4: string) =>
  parseNetworkConfig(
    JSON.stringify({
      Network: v4,
      EnableIPv6: true,
      IPv6Network: 'fd00:244::/48',
      Backend: { Type: 'host-gw' },
    }),
  );
const state = {
  own: parseLease(
    '10.244.7.0-24&fd00:244:0:7::-64',
    '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"host-gw"}',
  ),
  network: networkOf('10.244.0.0/16'),
  podMtu: 1450,
  settings: { ipMasq: true },
};

test('the subnet file should hold what the agent writes', () => {
  assert.equal(
    wantedSubnetFile(state),
    [
      'FLANNEL_NETWORK=10.244.0.0/16',
      'FLANNEL_SUBNET=10.244.7.1/24',
      'FLANNEL_IPV6_NETWORK=fd00:244::/48',
      'FLANNEL_IPV6_SUBNET=fd00:244:0:7::1/64',
      'FLANNEL_MTU=1450',
      'FLANNEL_IPMASQ=true',
      '',
    ].join('\n'),
  );
});

test('nothing is wrong with the subnet file of before until the agent has written another', () => {
  assert.equal(wantedSubnetFile({ ...state, own: undefined }), undefined);
  assert.equal(wantedSubnetFile({ ...state, network: undefined }), undefined);
  assert.equal(wantedSubnetFile({ ...state, podMtu: undefined }), undefined);
  // The lease does not follow the changed configuration yet.
  assert.equal(wantedSubnetFile({ ...state, network: networkOf('10.99.0.0/16') }), undefined);
});
