import assert from 'node:assert/strict';
import { test } from 'node:test';
import { affinityList, isOwnChain, serviceChains } from '../../../../src/services/iptables/plan/names.ts';
import { sha256 } from '../../../../src/services/iptables/rules.ts';

test('chain names are the ones kube-proxy gives (values from its own tests)', () => {
  assert.equal(serviceChains('ns1/svc1:p80', 'tcp', sha256).cluster, 'KUBE-SVC-XPGD46QRK7WJZT7O');
  assert.equal(serviceChains('ns1/svc1:p80', 'tcp', sha256).external, 'KUBE-EXT-XPGD46QRK7WJZT7O');
  assert.equal(affinityList('ns1/svc1:p80', 'tcp', '10.180.0.1:80', sha256), 'KUBE-SEP-SXIVWICOYRO3J4NJ');
});

test('only chains the proxy makes are its own', () => {
  for (const name of [
    'KUBE-SERVICES',
    'KUBE-SERVICES-a1f',
    'KUBE-NODEPORTS-p1d4',
    'KUBE-SEP-SXIVWICOYRO3J4NJ',
  ])
    assert.equal(isOwnChain(name), true, name);
  for (const name of ['KUBE-FIREWALL', 'KUBE-KUBELET-CANARY', 'KUBE-SVC-short', 'CNI-HOSTPORT-DNAT', 'INPUT'])
    assert.equal(isOwnChain(name), false, name);
});
