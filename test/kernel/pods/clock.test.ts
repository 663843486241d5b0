import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, fetchFrom, serveName, withCniNode } from '../../lab/cni-node.ts';

/** The next server believes to be in the year 2040: what comes after it is a clock that was set back. */
function setClockForward(node: CniNode): void {
  const ahead = Date.parse('2040-01-01') - Date.now();
  const patch = `const now = Date.now, Old = Date;
    globalThis.Date = class extends Old { constructor(...given) { given.length ? super(...given) : super(now() + ${ahead}); } };
    Date.now = () => now() + ${ahead};`;
  node.nodeOptions = [`--import=data:text/javascript,${encodeURIComponent(patch)}`];
}

function setClockRight(node: CniNode): void {
  node.nodeOptions = [];
}

test('a clock that is set back: a queued deletion is carried out', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    setClockForward(node);
    await node.startServer();
    const { call } = await node.added();
    const [record] = await node.records();
    assert.match(record!.createdAt, /^2040-/, 'the clock is ahead');
    await node.stopServer();
    setClockRight(node);
    assert.equal((await call('DEL')).status, 0);
    await node.startServer();
    assert.deepEqual(await node.records(), []);
    assert.deepEqual(await node.hostVeths(), []);
    assert.deepEqual(readdirSync(join(node.directory, 'del-queue')), []);
  });
});

test('a clock that is set back: a host port leads to the newer of two pods that claim it, over restarts', async () => {
  await withCniNode(async (node) => {
    const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] };
    await node.stopServer();
    setClockForward(node);
    await node.startServer();
    const old = await node.added({}, { runtimeConfig });
    await serveName(old.pod, 'old', 80);
    await node.stopServer();
    setClockRight(node);
    await node.startServer();
    const young = await node.added({}, { runtimeConfig });
    await serveName(young.pod, 'young', 80);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'young');
    await node.stopServer();
    await node.startServer();
    const third = await node.added({}, { runtimeConfig });
    await serveName(third.pod, 'third', 80);
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'third');
    await third.call('DEL');
    assert.equal(await fetchFrom(node.namespace, '10.244.7.1', 8080), 'young');
  });
});
