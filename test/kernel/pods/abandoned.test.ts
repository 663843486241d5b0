import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { type CniNode, cniExecutable, withCniNode } from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

function environment(containerId: string, pod: Namespace): NodeJS.ProcessEnv {
  return {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: 'eth0',
    CNI_NETNS: pod.path,
    CNI_PATH: '/opt/cni/bin',
  };
}

function configuration(node: CniNode): string {
  return JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill', socket: node.socketPath });
}

/** Starts the executable for an ADD. */
function execute(node: CniNode, containerId: string, pod: Namespace): ChildProcess {
  const child = spawn(cniExecutable, [], {
    env: environment(containerId, pod),
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.stdin.on('error', () => {});
  child.stdin.end(configuration(node));
  return child;
}

/** Nothing but the answer holds it up once it has a socket beside those that may be its standard input and output. */
function waitsForAnswer(pid: number): boolean {
  const descriptors = readdirSync(`/proc/${pid}/fd`)
    .filter((fd) => Number(fd) > 2)
    .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  const sleeps = /^State:\s+S/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return sleeps && descriptors.some((link) => link.startsWith('socket:'));
}

async function open(node: CniNode): Promise<Socket> {
  const socket = connect(node.socketPath);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

function requestLine(node: CniNode, containerId: string, pod: Namespace): string {
  const call = { environment: environment(containerId, pod), input: configuration(node) };
  return `${JSON.stringify(call)}\n`;
}

async function standing(node: CniNode): Promise<string> {
  const records = (await node.records()).map(({ containerId, hostVeth }) => `${containerId} ${hostVeth}`);
  const devices = await node.hostVeths();
  assert.deepEqual(records.map((text) => text.split(' ')[1]!).sort(), devices.sort());
  return records.map((text) => text.split(' ')[0]).join(' ');
}

test('an ADD whose caller goes away is undone: within the request, behind it, and with the answer unread', async () => {
  await withCniNode(async (node) => {
    const pod = await node.pod();
    const line = requestLine(node, 'c1', pod);

    const half = await open(node);
    half.write(line.slice(0, 50));
    half.destroy();

    const behind = await open(node);
    behind.end(line);
    await once(behind.resume(), 'close');
    await waitFor('nothing to stand after the second', async () => (await standing(node)) === '');

    // The executable waits for its answer, is held up, and killed when that lies in its socket.
    node.signalServer('SIGSTOP');
    const unread = execute(node, 'c1', pod);
    await waitFor('the executable to wait', () => waitsForAnswer(unread.pid!));
    unread.kill('SIGSTOP');
    node.signalServer('SIGCONT');
    await waitFor('the record', async () => (await standing(node)) === 'c1');
    unread.kill('SIGKILL');
    await waitFor('nothing to stand after the third', async () => (await standing(node)) === '');
    assert.match(node.log, /went away before its answer/);

    const read = await open(node);
    read.write(line);
    const [answer] = await once(read, 'data');
    assert.equal(JSON.parse(String(answer)).status, 0);
    read.destroy();
    await once(read, 'close');
    assert.equal((await node.call('CHECK', await checkOptions(node, pod, answer))).status, 0);
    assert.equal(await standing(node), 'c1');
  });
});

async function checkOptions(node: CniNode, pod: Namespace, answer: Buffer) {
  const prevResult = JSON.parse(JSON.parse(String(answer)).output);
  return { netns: pod.path, config: { prevResult, socket: node.socketPath } };
}

test('an ADD that waits for its turn is not begun when its caller has gone', async () => {
  await withCniNode(async (node) => {
    const pods = await Promise.all(Array.from({ length: 30 }, () => node.pod()));
    // Of one key: they are carried out one after the other. The server looks at none before all are there.
    node.signalServer('SIGSTOP');
    const sockets: Socket[] = [];
    for (const pod of pods) {
      const socket = await open(node);
      socket.write(requestLine(node, 'c1', pod));
      sockets.push(socket);
    }
    for (const socket of sockets.slice(1)) socket.destroy();
    const first = once(sockets[0]!, 'data');
    node.signalServer('SIGCONT');
    assert.equal(JSON.parse(String((await first)[0])).status, 0);
    await waitFor('the others to be over', () => node.log.match(/CNI call failed/g)?.length === 29);
    assert.equal(node.log.match(/the caller went away/g)?.length, 29);
    assert.equal(await standing(node), 'c1');
  });
});

test('the executable killed at any moment leaves all of an attachment or nothing, and DEL frees all', async () => {
  await withCniNode(async (node) => {
    const names: string[] = [];
    const pods: Namespace[] = [];
    for (let round = 0; round < 40; round++) {
      const pod = await node.pod();
      pods.push(pod);
      names.push(`k${round}`);
      const child = execute(node, `k${round}`, pod);
      const ended = once(child, 'exit');
      await new Promise((resolve) => setTimeout(resolve, round / 2));
      child.kill('SIGKILL');
      await ended;
    }
    await waitFor('what was begun to be over', async () => {
      const known = await standing(node);
      return known.split(' ').every((name) => name === '' || names.includes(name));
    });
    for (const [index, pod] of pods.entries())
      assert.equal((await node.call('DEL', { containerId: names[index]!, netns: pod.path })).status, 0);
    assert.equal(await standing(node), '');
    const links = await Promise.all(pods.map((pod) => pod.exec('ip', ['-br', 'link'])));
    for (const text of links) assert.doesNotMatch(text, /eth0/);
  });
});
