import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { runChecked } from '../../../src/kernel/process.ts';
import { CniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

// A path that leads to another namespace from one moment to the next: a process number that is used again, a mount that
// is replaced.

/** Makes `link` lead to the one and to the other in turn, as fast as it goes, on a thread of its own. */
const switcher = `
  const { renameSync, symlinkSync, unlinkSync } = require('node:fs');
  const { workerData: { link, targets, stop } } = require('node:worker_threads');
  const flag = new Int32Array(stop);
  for (let turn = 0; Atomics.load(flag, 0) === 0; turn++) {
    try { unlinkSync(link + '.next'); } catch {}
    symlinkSync(targets[turn % 2], link + '.next');
    renameSync(link + '.next', link);
    Atomics.add(flag, 1, 1);
  }
`;

const ADDS = 250;
let node: CniNode;
let directory: string;

before(async () => {
  node = await CniNode.start('10.244.0.0/16=10.244.4.0/22');
  directory = mkdtempSync(join(node.directory, 'paths-'));
});
after(() => node.close());

async function devicesOf(namespace: string): Promise<string[]> {
  const links = JSON.parse(await runChecked('ip', ['-n', namespace, '-j', 'link']));
  return links.map((link: { ifname: string }) => link.ifname).sort();
}

test(`${ADDS} ADDs with a path that changes: the node's own namespace is never touched, what is answered is whole`, async () => {
  const pod = await node.pod();
  const link = join(directory, 'switched');
  symlinkSync(pod.path, link);
  const stop = new SharedArrayBuffer(8);
  const worker = new Worker(switcher, {
    eval: true,
    workerData: { link, targets: [pod.path, node.namespace.path], stop },
  });
  const flag = new Int32Array(stop);
  await waitFor('the path to change', () => Atomics.load(flag, 1) > 10);
  let [added, refused] = [0, 0];
  try {
    for (let call = 0; call < ADDS; call++) {
      const containerId = `c${call}`;
      const ifname = `pod${call}`;
      const outcome = await node.call('ADD', { containerId, ifname, netns: link });
      if (outcome.status === 0) {
        added++;
        const [address] = JSON.parse(await pod.exec('ip', ['-j', 'addr', 'show', ifname]));
        const [inet] = address.addr_info.filter((info: { family: string }) => info.family === 'inet');
        assert.equal(`${inet.local}/${inet.prefixlen}`, outcome.json.ips[0].address);
      } else {
        refused++;
        assert.match(outcome.json.msg, /node's own network namespace/);
      }
      assert.equal((await node.call('DEL', { containerId, ifname, netns: link })).status, 0);
    }
  } finally {
    Atomics.store(flag, 0, 1);
    await worker.terminate();
  }
  assert.ok(
    added > 10 && refused > 10,
    `${added} added, ${refused} refused: the path did not change meanwhile`,
  );
  assert.deepEqual(
    await devicesOf(node.namespace.name),
    ['cni0', 'lo'],
    'nothing of the pods is on the node',
  );
  const routes = await node.namespace.exec('ip', ['route', 'show', 'default']);
  assert.equal(routes, '', 'the node has no default route from a pod');
  assert.deepEqual(await devicesOf(pod.name), ['lo']);
});

test('ADD and CHECK refuse what is no namespace of a pod, also a pipe that nobody writes to, and go on', async () => {
  const pipe = join(directory, 'pipe');
  await runChecked('mkfifo', [pipe]);
  const own = join(directory, 'own');
  symlinkSync(node.namespace.path, own);
  const pod = await node.pod();
  const cases: readonly [string, number, RegExp][] = [
    [pipe, 4, /not a network namespace/],
    [directory, 4, /not a network namespace/],
    ['/proc/self/ns/mnt', 4, /not a network namespace/],
    ['/proc/self/status', 4, /not a network namespace/],
    [own, 4, /node's own network namespace/],
    ['/proc/self/nothing/net', 3, /does not exist/],
    [join(pod.path, 'below'), 3, /does not exist/],
  ];
  const added = await node.call('ADD', { containerId: 'whole', netns: pod.path });
  assert.equal(added.status, 0, added.stdout);
  for (const [netns, code, message] of cases) {
    const add = await node.call('ADD', { containerId: 'other', netns });
    assert.equal(add.json?.code, code, `${netns}: ${add.stdout}`);
    assert.match(add.json.msg, message);
    const config = { prevResult: added.json };
    const check = await node.call('CHECK', { containerId: 'whole', netns, config });
    assert.match(check.json?.msg, message);
  }
  rmSync(pipe);
  const good = { containerId: 'whole', netns: pod.path, config: { prevResult: added.json } };
  assert.equal((await node.call('CHECK', good)).status, 0);
});

test('a path that leads to another namespace by now does not keep a pod that is gone', async () => {
  await node.stopServer();
  await node.startServer('400');
  const [gone, other] = [await node.pod(), await node.pod()];
  const link = join(directory, 'reused');
  symlinkSync(gone.path, link);
  assert.equal((await node.call('ADD', { containerId: 'reused', netns: link })).status, 0);
  symlinkSync(other.path, `${link}.next`);
  renameSync(`${link}.next`, link);
  await gone.remove();
  await waitFor('the pod to be forgotten', () => /reused.*pod is gone without DEL/.test(node.log));
});
