// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: GC.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, fails, has, latest } from '../../../lab/cni-conformance.ts';

const cni = conformanceNode();

test('2 GC: removes the resources of attachments that are not listed, and leaves the others', async () => {
  const [kept, stale] = [await cni.added(), await cni.added()];
  const others = await cni.node.pod();
  await cni.node.call('ADD', {
    containerId: 'other',
    netns: others.path,
    config: { ...latest, name: 'other' },
  });
  const valid = [{ containerID: kept.containerId, ifname: 'eth0' }];
  const config = { ...latest, 'cni.dev/valid-attachments': valid };
  const outcome = await cni.node.call('GC', { config });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
  assert.ok(await has(kept.pod, 'eth0'));
  assert.ok(!(await has(stale.pod, 'eth0')));
  assert.ok(await has(others, 'eth0'), 'another network is not touched');
  assert.equal((await stale.call('DEL')).status, 0);
  assert.equal(
    (await cni.node.call('GC', { config: { ...latest, 'cni.dev/valid-attachments': [] } })).status,
    0,
  );
  assert.ok(!(await has(kept.pod, 'eth0')));
  fails(await cni.node.call('GC', { config: latest }), 7, /valid-attachments/);
});

test('2 GC: null, as Go writes an empty list, means that no attachment is valid', async () => {
  for (const key of ['cni.dev/valid-attachments', 'cni.dev/attachments']) {
    const stale = await cni.added();
    const outcome = await cni.node.call('GC', { config: { ...latest, [key]: null } });
    assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
    assert.ok(!(await has(stale.pod, 'eth0')));
  }
  const kept = await cni.added();
  const valid = [{ containerID: kept.containerId, ifname: 'eth0' }];
  const config = { ...latest, 'cni.dev/valid-attachments': null, 'cni.dev/attachments': valid };
  assert.equal((await cni.node.call('GC', { config })).status, 0);
  assert.ok(await has(kept.pod, 'eth0'), 'a list counts before null');
});
