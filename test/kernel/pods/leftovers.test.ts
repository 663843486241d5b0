import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertReaches, type CniNode, withCniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

async function podIds(node: CniNode): Promise<string[]> {
  return (await node.records()).map(({ containerId }) => containerId).sort();
}

async function devices(node: CniNode): Promise<string> {
  return (await node.namespace.exec('ip', ['-br', 'link'])).replace(/^lo .*\n/m, '');
}

test('a pod whose namespace and device are gone is forgotten after the grace period, others are not', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    await node.startServer('400');
    const [gone, cut, alive] = [await node.pod(), await node.pod(), await node.pod()];
    await node.call('ADD', { containerId: 'gone', netns: gone.path });
    const added = await node.call('ADD', { containerId: 'cut', netns: cut.path });
    await node.call('ADD', { containerId: 'alive', netns: alive.path });
    // One sign only: the device is gone, and the namespace with its processes is there.
    await node.namespace.ip(`link del ${added.json.interfaces[1].name}`);
    const before = Date.now();
    await gone.remove();
    await waitFor('the pod to be forgotten', async () => !(await podIds(node)).includes('gone'));
    assert.ok(Date.now() - before >= 400, 'not before the grace period');
    assert.deepEqual(await podIds(node), ['alive', 'cut']);
  });
});

test('records of an earlier boot are forgotten, and with them their addresses', async () => {
  await withCniNode(async (node) => {
    const added = await node.call('ADD', { netns: (await node.pod()).path });
    await node.stopServer();
    await node.namespace.ip(`link del ${added.json.interfaces[1].name}`); // no device outlives a boot
    writeFileSync(join(node.directory, 'pods/boot-id'), 'another boot');
    await node.startServer();
    assert.deepEqual(await podIds(node), []);
    const again = await node.call('ADD', { containerId: 'c2', netns: (await node.pod()).path });
    assert.equal(again.json.ips[0].address, '10.244.7.2/24');
  });
});

test('damaged files of the state directory and of the queue are named and skipped', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    await node.call('ADD', { netns: pod.path });
    await node.stopServer();
    mkdirSync(join(node.directory, 'del-queue'), { recursive: true });
    writeFileSync(join(node.directory, 'pods/veth00000000000.json'), '{"half":');
    writeFileSync(join(node.directory, 'pods/last-addresses'), 'torn');
    writeFileSync(join(node.directory, 'del-queue/1-1.json'), 'not JSON');
    // Of an executable that was killed while it wrote.
    writeFileSync(join(node.directory, 'del-queue/.3-1.json.0123456789abcdef.new'), '{');
    const wrong = { environment: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: '../x' }, input: '{}', queuedAt: 1 };
    writeFileSync(join(node.directory, 'del-queue/2-1.json'), JSON.stringify(wrong));
    await node.startServer();
    assert.match(node.log, /veth00000000000\.json.*unreadable pod record/);
    assert.match(node.log, /1-1\.json\.unreadable.*it is not a CNI call.*set aside/);
    assert.match(node.log, /2-1\.json\.unreadable.*DEL needs CNI_IFNAME.*set aside/);
    const kept = ['1-1.json.unreadable', '2-1.json.unreadable'];
    assert.deepEqual(readdirSync(join(node.directory, 'del-queue')).sort(), kept);
    assert.deepEqual(await podIds(node), ['c1']);
    const added = await node.call('ADD', { containerId: 'c2', netns: (await node.pod()).path });
    assert.notEqual(added.json.ips[0].address, '10.244.7.2/24');
  });
});

test('what cannot be read in the queue drops nothing, and keeps nobody from starting', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    await node.call('ADD', { netns: pod.path });
    await node.stopServer();
    const queue = join(node.directory, 'del-queue');
    assert.equal((await node.call('DEL', { netns: pod.path })).status, 0);
    const [deletion = ''] = readdirSync(queue);
    mkdirSync(join(queue, '1-1.json'));
    symlinkSync('2-1.json', join(queue, '2-1.json'));
    // A named pipe would be waited for, a device read without end.
    await node.namespace.exec('mkfifo', [join(queue, '4-1.json'), join(node.directory, 'pods/veth4.json')]);
    symlinkSync('/dev/zero', join(queue, '4-2.json'));
    for (const [index, text] of ['3', 'null', '[]', '{}', '{"environment":{},"input":3}', ''].entries())
      writeFileSync(join(queue, `3-${index}.json`), text);
    await node.startServer();
    assert.deepEqual(await podIds(node), [], 'the deletion is carried out all the same');
    const left = readdirSync(queue);
    assert.ok(!left.includes(deletion));
    assert.ok(left.includes('1-1.json') && left.includes('2-1.json'), 'they may be readable later');
    assert.equal(left.filter((name) => name.endsWith('.unreadable')).length, 6);
    assert.match(node.log, /1-1\.json.*no regular file.*stay queued/);
    assert.match(node.log, /2-1\.json.*ELOOP.*stay queued/);
    assert.match(node.log, /4-1\.json.*no regular file.*stay queued/);
    assert.match(node.log, /4-2\.json.*no regular file.*stay queued/);
    assert.match(node.log, /veth4\.json.*unreadable pod record/);
    // A folder that cannot be listed, too.
    await node.stopServer();
    rmSync(queue, { recursive: true });
    writeFileSync(queue, '');
    await node.startServer();
    assert.match(node.log, /ENOTDIR.*stay queued/);
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0);
  });
});

test('a deletion that was queued before its container was added again does not delete it', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0);
    // The agent is too slow for the DEL, and back before it looks at the queue again.
    const queue = join(node.directory, 'del-queue');
    await node.stopServer();
    const queued = await node.call('DEL', { netns: pod.path });
    assert.equal(queued.status, 0, queued.stdout);
    const [name = ''] = readdirSync(queue);
    renameSync(join(queue, name), join(node.directory, name));
    await node.startServer();
    renameSync(join(node.directory, name), join(queue, name));
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0, 'the first one went before');
    assert.deepEqual(readdirSync(queue), []);
    await node.stopServer();
    await node.startServer();
    assert.deepEqual(await podIds(node), ['c1']);
  });
});

test('a second server on the same socket is refused', async () => {
  await withCniNode(async (node) => {
    await assert.rejects(node.startServer(), /another Twill agent listens on/);
    const pod = await node.pod();
    assert.equal((await node.call('ADD', { netns: pod.path })).status, 0, 'the first one goes on');
    await node.namespace.remove();
  });
});

test('a caller that gives up on a slow agent leaves nothing: its ADD is undone, its DEL is queued', async () => {
  await withCniNode(async (node) => {
    const [a, b] = [await node.pod(), await node.pod()];
    await node.call('ADD', { containerId: 'a', netns: a.path });
    node.signalServer('SIGSTOP');
    const config = { timeoutSeconds: 0.3 };
    const late = await node.call('ADD', { containerId: 'b', netns: b.path, config });
    assert.equal(late.json.code, 11);
    assert.match(late.json.msg, /no answer within 300 ms/);
    assert.equal((await node.call('DEL', { containerId: 'a', netns: a.path, config })).status, 0);
    assert.equal(readdirSync(join(node.directory, 'del-queue')).length, 1);
    node.signalServer('SIGCONT');
    await waitFor('the queue to be empty', () => readdirSync(join(node.directory, 'del-queue')).length === 0);
    const gone = async () => (await podIds(node)).length === 0 && !/veth/.test(await devices(node));
    await waitFor('both pods to be gone', gone);
    assert.equal((await node.call('ADD', { containerId: 'c', netns: b.path })).status, 0);
  });
});

test('a bridge that was deleted comes back with its address, and the pods are on it again', async () => {
  await withCniNode(async (node) => {
    const [a, b] = [await node.pod(), await node.pod()];
    await node.call('ADD', { containerId: 'a', netns: a.path });
    await node.call('ADD', { containerId: 'b', netns: b.path });
    await node.namespace.ip('link del cni0');
    await waitFor('pods to reach each other', () => assertReaches(a, '10.244.7.3', 3).then(() => true), {
      timeoutMs: 10_000, // sooner than the slow look
    });
    await assertReaches(b, '10.244.7.1');
    assert.match(await node.namespace.exec('bridge', ['-d', 'link']), /hairpin on/);
    const added = await node.call('ADD', { containerId: 'c', netns: (await node.pod()).path });
    assert.equal(added.status, 0, added.stdout);
  });
});

test('a pod’s device on the bridge that somebody has changed is put right', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    await node.startServer('400');
    const { pod, result } = await node.added({}, { portIsolation: true });
    const veth = result.interfaces[1].name;
    await node.namespace.ip(
      `link set ${veth} down`,
      `link set ${veth} type bridge_slave isolated off`,
      `link set ${veth} type bridge_slave hairpin off`,
    );
    await waitFor('the pod to reach its gateway', () => assertReaches(pod, '10.244.7.1', 3).then(() => true));
    const [port] = JSON.parse(await node.namespace.exec('ip', ['-j', '-d', 'link', 'show', veth]));
    const { isolated, hairpin } = port.linkinfo.info_slave_data;
    assert.deepEqual({ isolated, hairpin }, { isolated: true, hairpin: true });
  });
});

test('rules against forged MACs go with a pod that was deleted while the agent was away', async () => {
  await withCniNode(async (node) => {
    const { call } = await node.added({}, { macspoofchk: true });
    await node.stopServer();
    assert.equal((await call('DEL')).status, 0);
    assert.match(await node.namespace.exec('nft', ['list', 'ruleset']), /macspoofchk/);
    await node.startServer();
    assert.doesNotMatch(await node.namespace.exec('nft', ['list', 'ruleset']), /macspoofchk/);
  });
});

test('records whose boot cannot be told are not taken for older ones', async () => {
  await withCniNode(async (node) => {
    await node.call('ADD', { netns: (await node.pod()).path });
    await node.stopServer();
    const file = join(node.directory, 'pods/boot-id');
    renameSync(file, `${file}.kept`);
    mkdirSync(file);
    await assert.rejects(node.startServer(), /cannot tell of which boot.*boot-id/);
    rmSync(file, { recursive: true });
    renameSync(`${file}.kept`, file);
    await node.startServer();
    assert.deepEqual(await podIds(node), ['c1']);
  });
});

test('a record that was damaged, and is JSON all the same, is made anew from what stands', async () => {
  await withCniNode(async (node) => {
    const { call } = await node.added();
    const before = await node.records();
    const [{ hostVeth = '' } = {}] = before;
    for (const text of ['{}', '{"version":1}', '', JSON.stringify({ ...before[0], addresses: [{}] })]) {
      await node.stopServer('SIGKILL');
      writeFileSync(join(node.directory, `pods/${hostVeth}.json`), text);
      writeFileSync(join(node.directory, 'pods/last-addresses'), '{"ipv4":5}');
      await node.startServer();
      assert.match(node.log, /unreadable pod record/);
      const [record] = await node.records();
      assert.deepEqual(record?.addresses, before[0]?.addresses, text);
      assert.equal(record?.containerId, 'container-1');
      const added = await node.added();
      assert.notEqual(added.result.ips[0].address, '10.244.7.2/24', 'an ADD works, with another address');
      assert.equal((await added.call('DEL')).status, 0);
    }
    assert.equal((await call('DEL')).status, 0);
    assert.deepEqual(await node.records(), []);
  });
});

test('what somebody removes under a running agent is back: records, and the socket', async () => {
  await withCniNode(async (node) => {
    const first = await node.added();
    rmSync(join(node.directory, 'pods'), { recursive: true });
    const second = await node.added();
    // It may be back before the question.
    const absent = await waitFor('the socket to be away', async () => {
      rmSync(node.socketPath, { force: true });
      const outcome = await second.call('CHECK', { config: { prevResult: second.result } });
      return outcome.status !== 0 && outcome;
    });
    assert.equal(absent.json.code, 11, absent.stdout);
    await waitFor('the socket to be back', async () => {
      const { status } = await second.call('CHECK', { config: { prevResult: second.result } });
      return status === 0;
    });
    await node.stopServer('SIGKILL');
    await node.startServer();
    assert.deepEqual((await podIds(node)).length, 2);
    assert.doesNotMatch(node.log, /pod adopted/, 'the records were whole');
    for (const { call } of [first, second]) assert.equal((await call('DEL')).status, 0);
    assert.doesNotMatch(await devices(node), /veth/);
  });
});
