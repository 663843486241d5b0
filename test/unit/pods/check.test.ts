import assert from 'node:assert/strict';
import { test } from 'node:test';
import { insideProblem, outsideProblems, type Standing } from '../../../src/pods/plan/check.ts';

const whole: Standing = {
  device: { up: true },
  addresses: ['10.244.7.2/24', 'fd00:244:0:7::2/64', '198.51.100.1/24'],
  routes: ['0.0.0.0/0', '10.244.0.0/16', '::/0'],
};
const expected = { addresses: whole.addresses.slice(0, 2), routes: ['0.0.0.0/0', '::/0'] };

test('inside, the first of what a pod has lost is named', () => {
  const cases: readonly (readonly [lost: Partial<Standing>, says: string | undefined])[] = [
    [{}, undefined],
    [{ routes: ['0.0.0.0/0', '::/0'], addresses: expected.addresses }, undefined],
    [{ device: undefined, addresses: [], routes: [] }, 'the pod has no interface eth0'],
    [{ device: { up: false }, routes: [] }, 'eth0 of the pod is down'],
    [{ addresses: ['10.244.7.2/24'] }, 'eth0 of the pod has lost fd00:244:0:7::2/64'],
    [{ addresses: ['10.244.7.2/16', 'fd00:244:0:7::2/64'] }, 'eth0 of the pod has lost 10.244.7.2/24'],
    [{ routes: ['0.0.0.0/0'] }, 'the pod has lost its route to ::/0'],
  ];
  for (const [lost, says] of cases)
    assert.equal(insideProblem({ ifname: 'eth0' }, expected, { ...whole, ...lost }), says);
});

test('of an interface that was left down only that it stands is asked', () => {
  const left = { ifname: 'eth0', up: false } as const;
  const standing = { device: { up: false }, addresses: [], routes: [] };
  assert.equal(insideProblem(left, expected, standing), undefined);
  assert.match(insideProblem(left, expected, { ...standing, device: undefined })!, /no interface eth0/);
});

test('outside, all is named that is wrong with a pod’s device and the bridge', () => {
  const record = { bridge: 'cni0', hostVeth: 'veth1', hairpin: true, isolated: true } as const;
  const bridge = { index: 3, name: 'cni0', up: true, master: 0, hairpin: undefined };
  const port = { index: 4, name: 'veth1', up: true, master: 3, hairpin: true, isolated: true };
  const of = (...links: (typeof bridge | typeof port)[]): string[] =>
    outsideProblems(record, new Map(links.map((link) => [link.name, link])));
  assert.deepEqual(of(bridge, port), []);
  assert.deepEqual(of(port), ['the bridge cni0 is gone']);
  assert.deepEqual(of(bridge), ['its device veth1 is gone']);
  assert.deepEqual(of({ ...bridge, up: false }, { ...port, up: false }), [
    'the bridge cni0 is down',
    'its device veth1 is down',
  ]);
  assert.deepEqual(of(bridge, { ...port, master: 0, hairpin: false, isolated: false }), [
    'its device veth1 is no port of the bridge cni0',
  ]);
  assert.deepEqual(of(bridge, { ...port, master: 9, up: false }), [
    'its device veth1 is no port of the bridge cni0',
    'its device veth1 is down',
  ]);
  assert.match(of(bridge, { ...port, hairpin: false }).join(), /^its device veth1 has hairpin mode off: /);
  assert.deepEqual(of(bridge, { ...port, isolated: false }), [
    'its device veth1 is not isolated from other ports',
  ]);
});
