// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: DEL.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, has } from '../../../lab/cni-conformance.ts';

const cni = conformanceNode();

test('2 DEL: deletes the interface, and says nothing', async () => {
  const { pod, call } = await cni.added();
  const outcome = await call('DEL');
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: succeeds when called again, before any ADD, and for what is gone', async () => {
  const { pod, call } = await cni.added();
  for (let i = 0; i < 3; i++) assert.equal((await call('DEL')).status, 0);
  assert.equal((await (await cni.subject()).call('DEL')).status, 0);
  const other = await cni.added();
  await other.pod.ip('link del eth0');
  assert.equal((await other.call('DEL')).status, 0, 'the interface was removed by hand');
  const gone = await cni.added();
  await gone.pod.remove();
  assert.equal((await gone.call('DEL')).status, 0, 'the namespace was removed');
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: CNI_NETNS is optional, and what can be cleaned up is', async () => {
  const { pod, call } = await cni.added();
  assert.equal((await call('DEL', { netns: undefined })).status, 0);
  assert.ok(!(await has(pod, 'eth0')));
});

test('2 DEL: a broken cache does not keep a container from being deleted', async () => {
  for (const prevResult of [{}, null, 'nonsense', { ips: 7, interfaces: [null] }, { cniVersion: '9.9' }]) {
    const { pod, call } = await cni.added();
    assert.equal((await call('DEL', { config: { prevResult, mtu: 'broken', runtimeConfig: 3 } })).status, 0);
    assert.ok(!(await has(pod, 'eth0')));
  }
});

test('2 DEL: a missing, ancient or unknown version does not keep a container from being deleted', async () => {
  for (const cniVersion of [undefined, '', '0.1.0', '0.2.0', '9.9.9', 7, null]) {
    const { pod, call } = await cni.added();
    const outcome = await call('DEL', { config: { cniVersion } });
    assert.deepEqual([outcome.status, outcome.stdout], [0, ''], String(cniVersion));
    assert.ok(!(await has(pod, 'eth0')));
  }
});

test('2 DEL: what ADD took goes with DEL, with its result beside it', async () => {
  const dns = { options: ['x'.repeat(600_000)] };
  const { pod, call, result } = await cni.added({ config: { dns } });
  assert.equal((await call('DEL', { config: { dns, prevResult: result } })).status, 0);
  assert.ok(!(await has(pod, 'eth0')), 'deleted, not queued');
});
