import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress, parsePrefix, prefixHost } from '../../../src/model/address.ts';
import {
  type BridgeOptions,
  bridgeMac,
  lastingMac,
  planBridgeAddresses,
  usualBridge,
} from '../../../src/pods/plan/bridge.ts';

const family = (pods: string, own: string) => {
  const subnet = parsePrefix(own);
  return { family: subnet.family, network: parsePrefix(pods), subnet, gateway: prefixHost(subnet, 1) };
};
const v4 = family('10.244.0.0/16', '10.244.7.0/24');
const v6 = family('fd00:244::/48', 'fd00:244:0:7::/64');
const network = { families: [v4, v6], mtu: 1450 };

/** @param present addresses with their prefix length, each behind the index of its device */
function planned(present: readonly string[], more: Partial<BridgeOptions> = {}): string[] {
  const standing = present.map((text) => {
    const [index, address, length] = text.split(/[ /]/) as [string, string, string];
    return { index: Number(index), address: parseAddress(address), length: Number(length) };
  });
  const names = (index: number): string => `device ${index}`;
  const bridge = { index: 5, name: 'cni0' };
  const { add, remove } = planBridgeAddresses(bridge, network, { ...usualBridge, ...more }, standing, names);
  return [
    ...remove.map(({ address, length }) => `-${address.text}/${length}`),
    ...add.map(({ address, length }) => `+${address.text}/${length}`),
  ];
}

test('a bridge gets the gateway addresses that it lacks, and loses others where they are to go', () => {
  const both = ['+10.244.7.1/24', '+fd00:244:0:7::1/64'];
  const whole = ['5 10.244.7.1/24', '5 fd00:244:0:7::1/64', '5 fe80::1/64'];
  assert.deepEqual(planned([]), both);
  assert.deepEqual(planned(['5 10.244.7.1/24']), both.slice(1));
  assert.deepEqual(planned(whole), []);
  assert.deepEqual(planned([], { gateway: false }), []);
  // Beside the gateway another address may stand unless something is said of it.
  const old = ['5 10.244.6.1/24', '5 fd00:244:0:6::1/64', '5 fd00:244:0:7::9/64', '5 fd00::1/40'];
  assert.deepEqual(planned([...whole, ...old]), []);
  assert.deepEqual(planned([...whole, ...old], { forceAddress: true }), [
    '-10.244.6.1/24',
    '-fd00:244:0:6::1/64',
    '-fd00:244:0:7::9/64',
    '-fd00::1/40',
  ]);
  assert.deepEqual(planned([...whole, '5 fd00:99::1/80', '4 10.244.6.1/24'], { forceAddress: true }), []);
  assert.deepEqual(planned(whole, { forceAddress: false }), []);
  assert.throws(
    () => planned([...whole, ...old], { forceAddress: false }),
    /forceAddress is false, and bridge "cni0" has 10\.244\.6\.1 instead of 10\.244\.7\.1/,
  );
  assert.throws(
    () => planned(['4 10.244.7.1/24']),
    /bridge "cni0" needs the gateway address 10\.244\.7\.1, which device 4 has/,
  );
});

test('a bridge of ours has a MAC by its gateway, IPv4 first', () => {
  assert.equal(bridgeMac({ families: [v6, v4] }), '0a:58:0a:f4:07:01');
  assert.equal(bridgeMac({ families: [v6] }), '0a:58:00:00:00:01');
  assert.equal(bridgeMac({ families: [] }), undefined);
});

test('the MAC of a bridge is fixed once, and stays what it was', () => {
  const [none, mac, other] = ['00:00:00:00:00:00', '0a:58:0a:f4:07:01', '02:00:00:00:00:09'];
  const now = (text: string) => ({ index: 5, mac: text });
  const cases = [
    ['just made', now(mac), true, undefined, { mac, isToSet: false }],
    ['somebody’s', now(other), false, undefined, { mac: other, isToSet: true }],
    ['left so before', now(other), false, now(other), { mac: other, isToSet: false }],
    ['changed since', now(other), false, now(mac), { mac: other, isToSet: true }],
    ['made anew since', now(mac), false, { index: 4, mac }, { mac, isToSet: true }],
    ['somebody’s without ports', now(none), false, undefined, { mac, isToSet: true }],
  ] as const;
  for (const [what, bridge, made, before, is] of cases)
    assert.deepEqual(lastingMac(bridge, made, before, network), is, what);
  assert.deepEqual(lastingMac(now(none), false, undefined, { families: [] }), { mac: none, isToSet: false });
});
