import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { PodRecord } from '../../../src/pods/plan/pod.ts';
import type { CniAnswer, CniCall } from '../../../src/pods/plan/protocol.ts';
import { type CniContainer, type CniNode, withCniNode } from '../../lab/cni-node.ts';
import { root } from '../../lab/files.ts';

/** What the version before files and calls carried one wrote and said, with names in the place of what is a run's own. */
function fixture<T>(name: string, values: Readonly<Record<string, string>>): T {
  let text = readFileSync(join(root, 'test/fixtures/version-0', name), 'utf8');
  for (const [key, value] of Object.entries(values)) text = text.replaceAll(`@${key}@`, value);
  return JSON.parse(text) as T;
}

interface Exchange {
  readonly request: CniCall;
  readonly answer: CniAnswer;
}

/** Sends a line as an executable does, and returns the one that comes back. */
function exchange(socketPath: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(socketPath, () => socket.write(`${line}\n`));
    socket.on('error', reject);
    socket.on('data', (data) => {
      resolve(data.toString());
      socket.destroy();
    });
  });
}

const config = {
  capabilities: { portMappings: true, bandwidth: true },
  runtimeConfig: {
    portMappings: [{ hostPort: 18080, containerPort: 80, protocol: 'tcp' }],
    bandwidth: { ingressRate: 10_000_000, ingressBurst: 1_000_000 },
  },
};

function recordFile(node: CniNode): string {
  const directory = join(node.directory, 'pods');
  return join(directory, readdirSync(directory).find((name) => name.endsWith('.json'))!);
}

type FiledRecord = PodRecord & { version?: number };

const readRecord = (file: string): FiledRecord => JSON.parse(readFileSync(file, 'utf8')) as FiledRecord;

async function gone(node: CniNode, container: CniContainer): Promise<void> {
  assert.equal((await container.call('DEL')).status, 0);
  assert.deepEqual(await node.hostVeths(), []);
  assert.doesNotMatch(await node.namespace.exec('iptables-save', ['-t', 'nat']), /--dport 18080/);
}

describe('an earlier and a later version on one node', () => {
  it('a record of the version before is known: the pod stands, is checked, and goes', async () => {
    await withCniNode(async (node) => {
      const added = await node.added({}, config);
      const file = recordFile(node);
      const now = readRecord(file);
      await node.stopServer();
      const { netns, netnsId = '', hostVeth: VETH } = now;
      const names = { NETNS: netns, NETNSID: netnsId, VETH, CONTAINER: added.containerId };
      const before = fixture<PodRecord>('record.json', names);
      writeFileSync(file, JSON.stringify({ ...before, addresses: now.addresses, mac: now.mac }));
      await node.startServer();
      assert.equal((await added.call('CHECK', { config: { prevResult: added.result } })).status, 0);
      assert.equal((await node.records()).length, 1);
      await gone(node, added);
    });
  });

  it('a record of now has all that the version before reads, under the same names and in the same forms', async () => {
    await withCniNode(async (node) => {
      await node.added({}, config);
      const { version, ...now } = readRecord(recordFile(node));
      assert.equal(version, 1);
      const before = fixture<Record<string, unknown>>('record.json', {});
      const form = (value: unknown): unknown => {
        if (Array.isArray(value)) return value.length === 0 ? [] : [form(value[0])];
        if (typeof value !== 'object' || value === null) return typeof value;
        return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, form(one)]));
      };
      const fields = Object.keys(before);
      const ofNow = Object.fromEntries(Object.entries(now).filter(([name]) => fields.includes(name)));
      assert.deepEqual(form(ofNow), form(before));
    });
  });

  it('a record of a version to come keeps its pod, and what it says that nobody knows here is passed over', async () => {
    await withCniNode(async (node) => {
      const added = await node.added({}, config);
      const file = recordFile(node);
      await node.stopServer();
      writeFileSync(file, JSON.stringify({ ...readRecord(file), version: 7, tomorrow: { more: [1] } }));
      await node.startServer();
      assert.match(node.log, /a later version of Twill made this pod/);
      assert.equal((await added.call('CHECK', { config: { prevResult: added.result } })).status, 0);
      await gone(node, added);
    });
  });

  it('the executable of the version before is answered as it was then', async () => {
    await withCniNode(async (node) => {
      const pod = await node.pod();
      const names = { NETNS: pod.path, CONTAINER: 'old', SOCKET: node.socketPath };
      const calls = fixture<Exchange[]>('calls.json', names);
      assert.deepEqual(
        calls.map(({ request }) => request.environment.CNI_COMMAND),
        ['ADD', 'CHECK', 'DEL'],
      );
      const result: { text: string } = { text: '' };
      for (const { request, answer } of calls) {
        assert.equal(request.protocol, undefined);
        const input = JSON.parse(request.input) as { prevResult?: unknown };
        if (input.prevResult !== undefined) input.prevResult = JSON.parse(result.text);
        const line = JSON.stringify({ ...request, input: JSON.stringify(input) });
        const got = JSON.parse(await exchange(node.socketPath, line)) as CniAnswer;
        assert.equal(got.status, answer.status, got.output);
        if (request.environment.CNI_COMMAND !== 'ADD') continue;
        result.text = got.output;
        const [was, is] = [answer.output, got.output].map(
          (text) => JSON.parse(text) as Record<string, unknown>,
        );
        assert.deepEqual(Object.keys(is!), Object.keys(was!));
        assert.deepEqual(is!.ips, was!.ips);
        assert.deepEqual(is!.routes, was!.routes);
      }
      assert.deepEqual(await node.hostVeths(), []);
    });
  });

  it('the executable says its version, and takes the answer of an agent that knows of none', async () => {
    await withCniNode(async (node) => {
      const { answer } = fixture<Exchange[]>('calls.json', { NETNS: '/run/netns/x', CONTAINER: 'c1' })[0]!;
      const requests: CniCall[] = [];
      const socketPath = join(node.directory, 'old.sock');
      const server = createServer((socket) => {
        socket.on('error', () => {});
        socket.on('data', (data) => {
          const { environment, input, ...rest } = JSON.parse(data.toString()) as CniCall;
          requests.push({ environment, input, ...rest });
          socket.end(`${JSON.stringify(answer)}\n`);
        });
      });
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
      try {
        const outcome = await node.call('ADD', { netns: '/run/netns/x', config: { socket: socketPath } });
        assert.equal(outcome.stdout, answer.output);
        assert.deepEqual(
          requests.map(({ protocol }) => protocol),
          [1],
        );
        const { request } = fixture<Exchange[]>('calls.json', {})[0]!;
        assert.deepEqual(
          Object.keys(requests[0]!)
            .filter((name) => name in request)
            .sort(),
          Object.keys(request).sort(),
        );
      } finally {
        server.close();
      }
      assert.ok(!existsSync(join(node.directory, 'del-queue')));
    });
  });
});
