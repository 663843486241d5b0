// The sentences of the CNI specification 1.1.0 that bind a plugin, each tested through the executable. A test's name
// begins with the section it is about. Here: STATUS.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conformanceNode, fails, latest } from '../../../lab/cni-conformance.ts';
import { type CniOutcome, withCniNode } from '../../../lab/cni-node.ts';

const cni = conformanceNode();

test('2 STATUS: succeeds when ADD can be served, and says nothing', async () => {
  const outcome = await cni.node.call('STATUS', { config: latest });
  assert.deepEqual([outcome.status, outcome.stdout], [0, '']);
});

test('5 Error: STATUS says 50 when ADD cannot be served, 51 when containers may also be cut off', async () => {
  await withCniNode(async (other) => {
    const status = (): Promise<CniOutcome> => other.call('STATUS', { config: latest });
    await other.call('ADD', { netns: (await other.pod()).path });
    await other.stopServer();
    other.subnets = '';
    await other.startServer();
    fails(await status(), 50, /no pod subnet yet/);
    await other.namespace.ip('link del cni0');
    fails(await status(), 51, /bridge cni0 is gone/);
    await other.stopServer();
    fails(await status(), 50, /does not answer/);
  });
});
