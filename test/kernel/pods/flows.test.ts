// Host ports whose rules or tracked conversations others, or time, have left wrong.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, fetchFrom, serveName, withOutsideClient } from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

/** Asks `address` from one socket, so in one conversation for conntrack, for ever. @returns what was answered last */
function keepAsking(
  client: Namespace,
  address: string,
  port: number,
): { process: ChildProcess; last(): string } {
  const program = `const socket = require('node:dgram').createSocket('udp4');
    socket.on('message', (text) => console.log(String(text)));
    setInterval(() => socket.send('who', ${port}, '${address}'), 20);`;
  const asking = client.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  let last = '';
  asking.stdout?.on('data', (chunk: Buffer) => {
    last = chunk.toString().trim().split('\n').at(-1) ?? '';
  });
  return { process: asking, last: () => last };
}

async function answer(namespace: Namespace, name: string, port: number): Promise<void> {
  const program = `const socket = require('node:dgram').createSocket('udp4');
    socket.on('message', (_, from) => socket.send('${name}', from.port, from.address));
    socket.bind(${port}, () => console.log('ready'));`;
  const server = namespace.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(server.stdout as NodeJS.ReadableStream, 'data');
}

async function addWithPort(
  node: CniNode,
  containerId: string,
  pod: Namespace,
  mapping: object,
): Promise<string> {
  const runtimeConfig = { portMappings: [mapping] };
  const added = await node.call('ADD', { containerId, netns: pod.path, config: { runtimeConfig } });
  assert.equal(added.status, 0, added.stdout);
  return added.json.ips[0].address.split('/')[0];
}

test('UDP: one conversation follows the host port from nobody to a pod and to the next; others stay', async () => {
  await withOutsideClient(async (node, client) => {
    const tracked = (...args: string[]): Promise<string> =>
      node.namespace.exec('conntrack', ['-L', '-p', 'udp', ...args]);
    const dns = { hostPort: 5353, containerPort: 53, protocol: 'UDP' };
    // The kernel tracks conversations once there are rules that need it.
    await addWithPort(node, 'other', await node.pod(), {
      hostPort: 6000,
      containerPort: 6000,
      protocol: 'udp',
    });
    // By itself it must not be forgotten while this goes on.
    node.namespace.sysctl({ 'net/netfilter/nf_conntrack_udp_timeout': '600' });
    // The same port of another host, and a conversation with it that says something once.
    await answer(client, 'outside', 5353);
    await node.namespace.exec('bash', ['-c', 'echo once >/dev/udp/192.0.2.9/5353']);
    const asking = keepAsking(client, '192.0.2.1', 5353);
    await waitFor('the conversation to be tracked', async () =>
      (await tracked('--orig-dst', '192.0.2.1')).includes('dport=5353'),
    );
    const [one, two] = [await node.pod(), await node.pod()];
    await answer(one, 'one', 53);
    await answer(two, 'two', 53);
    const first = await addWithPort(node, 'one', one, dns);
    await waitFor('the first pod to answer', () => asking.last() === 'one');
    await node.call('DEL', { containerId: 'one', netns: one.path });
    assert.equal(await tracked('--reply-src', first), '', 'nothing leads to the pod that is gone');
    await addWithPort(node, 'two', two, dns);
    await waitFor('the second pod to answer', () => asking.last() === 'two');
    assert.match(
      await tracked('--orig-dst', '192.0.2.9'),
      /dport=5353/,
      'what was sent elsewhere is not touched',
    );
    asking.process.kill();
  });
});

test('SCTP: a host port leads to the pod', async () => {
  await withOutsideClient(async (node, client) => {
    const pod = await node.pod();
    await addWithPort(node, 'sctp', pod, { hostPort: 9000, containerPort: 3868, protocol: 'sctp' });
    const program = join(import.meta.dirname, '../../lab/sctp-process.js');
    const listener = pod.spawn(process.execPath, [program, 'listen'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let heard = '';
    listener.stdout?.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    await waitFor('the listener', () => heard.includes('ready'));
    const sender = client.spawn(process.execPath, [program, 'send', '192.0.2.1', '9000'], {
      stdio: 'inherit',
    });
    await waitFor('a packet', () => heard.includes('192.0.2.9 3868'), { explain: () => heard });
    sender.kill();
    listener.kill();
  });
});

for (const [what, program, ...args] of [
  ['nft flush ruleset', 'nft', 'flush', 'ruleset'],
  ['iptables -F', 'iptables-nft', '-t', 'nat', '-F'],
  ['a lost rule', 'iptables-nft', '-t', 'nat', '-F', 'CNI-HOSTPORT-TWILL'],
] as const) {
  test(`host ports are back soon after ${what}`, async () => {
    await withOutsideClient(async (node, client) => {
      const pod = await node.pod();
      await addWithPort(node, 'web', pod, { hostPort: 8080, containerPort: 80, protocol: 'tcp' });
      await serveName(pod, 'web', 80);
      assert.equal(await fetchFrom(client, '192.0.2.1', 8080), 'web');
      await node.namespace.exec(program, args);
      await waitFor('the host port', async () => (await fetchFrom(client, '192.0.2.1', 8080)) === 'web', {
        timeoutMs: 20_000,
      });
      assert.match(node.log, /host port rules repaired/);
    });
  });
}
