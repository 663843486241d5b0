import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { cniFolder, cniProgram } from '../../lab/files.ts';
import { withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { seeded } from '../../lab/random.ts';

const SEED = Number(process.env.TWILL_TEST_SEED ?? 1);
const CALLS = 80;
const TOLERANCE_MIB = 24;

type Below = (below: number) => number;
const hostile: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  0xffff_ffff,
  [],
  {},
  [[[]]],
  '',
  '../../etc/passwd',
  '$(touch /tmp/injected)',
  '"; flush ruleset; "',
  '-j ACCEPT\n-A INPUT -j ACCEPT',
  '\u0000\u0007\u001b[31m',
  'x'.repeat(5000),
  '10.244.0.0/0',
  'fe80::1%eth0',
  { __proto__: { polluted: 1 }, constructor: 1, toString: null },
];

const usual = {
  bridge: 'cni0',
  mtu: 1400,
  hairpinMode: true,
  isGateway: true,
  isDefaultGateway: true,
  promiscMode: false,
  forceAddress: true,
  macspoofchk: true,
  portIsolation: true,
  ipMasq: true,
  snat: true,
  markMasqBit: 13,
  ingressRate: 8_000_000,
  ipam: { type: 'host-local', rangeStart: null, routes: [{ dst: '198.51.100.0/24', mtu: 1300, table: 7 }] },
  dns: { nameservers: ['10.0.0.10'] },
  capabilities: { portMappings: true },
  runtimeConfig: {
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' }],
    bandwidth: { ingressRate: 1_000_000, ingressBurst: 1_000_000 },
    ips: null,
    mac: '',
    dns: { servers: [], searches: [] },
  },
  args: { cni: { ips: null } },
  delegate: { mtu: 1300 },
  prevResult: { interfaces: [], ips: [], routes: [] },
  'cni.dev/valid-attachments': [{ containerID: 'x', ifname: 'eth0' }],
};

/** Puts something hostile at a random place, or under a name in another case. */
function spoil(value: unknown, below: Below): unknown {
  if (typeof value !== 'object' || value === null || below(4) === 0) return hostile[below(hostile.length)];
  const entries = Object.entries(value);
  if (entries.length === 0) return hostile[below(hostile.length)];
  const chosen = below(entries.length);
  const changed = entries.map(([name, field], index) => {
    if (index !== chosen) return [name, field];
    return [below(5) === 0 ? name.toUpperCase() : name, spoil(field, below)];
  });
  return Array.isArray(value) ? changed.map(([, field]) => field) : Object.fromEntries(changed);
}

function mangle(text: string, below: Below): string {
  const at = below(text.length);
  const piece = ['"', '{', '\\', '\n', '\u0000', '\ufffd', '[', '1e999'][below(8)] ?? '';
  return (
    [text.slice(0, at), text.slice(0, at) + piece + text.slice(at), text.repeat(1 + below(3))][below(3)] ?? ''
  );
}

function environment(node: LabNode, netns: string, index: number, below: Below): NodeJS.ProcessEnv {
  const env: Record<string, string> = {
    CNI_COMMAND: ['ADD', 'ADD', 'ADD', 'CHECK', 'GC', 'STATUS', 'VERSION'][below(7)] ?? 'ADD',
    CNI_CONTAINERID: `fuzz-${index}`,
    CNI_NETNS: netns,
    CNI_IFNAME: `f${index}`,
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=x',
    CNI_PATH: cniFolder,
  };
  if (below(3) > 0) return env;
  const names = Object.keys(env);
  // No other namespace than the pod's and the node's own is ever named.
  const values = [
    '',
    '../..',
    'a/b',
    '-x',
    'x'.repeat(3000),
    '$(id)',
    '\u001b[31m',
    '=;=',
    'ä',
    node.namespace.path,
  ];
  env[names[below(names.length)] ?? ''] = values[below(values.length)] ?? '';
  return env;
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

async function rules(node: LabNode): Promise<string> {
  const saved = await node.exec('iptables-nft-save', []);
  // Counters and dates are not rules; chains stay where host ports were.
  return saved
    .split('\n')
    .filter((line) => line.startsWith('-A ') && !line.includes('CNI-HOSTPORT'))
    .join('\n');
}

/** One round of calls through the executable; what was added is deleted again by the very same call. */
async function round(node: LabNode, netns: string, seed: number): Promise<number> {
  const below = seeded(seed);
  let succeeded = 0;
  for (let index = 0; index < CALLS; index++) {
    const config = { cniVersion: '1.1.0', name: 'fuzz', type: 'twill', ...usual, socket: node.cniSocket };
    const spoilt = below(3) === 0 ? config : { ...(spoil(config, below) as object) };
    const text = JSON.stringify({ ...spoilt, socket: node.cniSocket });
    const input = below(4) === 0 ? mangle(text, below) : text;
    const env = environment(node, netns, index, below);
    const what = `seed ${seed}, call ${index}: ${JSON.stringify(env)} ${input.slice(0, 600)}`;
    const outcome = await node.namespace.run(cniProgram, [], { env, input });
    assert.ok(outcome.status === 0 || outcome.status === 1, `${what}: ${outcome.status} ${outcome.stderr}`);
    if (outcome.stdout !== '') {
      const answer = JSON.parse(outcome.stdout) as { code?: number };
      if (outcome.status === 1) assert.ok((answer.code ?? 0) > 0, what);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
      assert.doesNotMatch(outcome.stdout, /[\u0000-\u0009\u000b-\u001f]/, what);
    }
    if (outcome.status !== 0 || env.CNI_COMMAND !== 'ADD') continue;
    succeeded++;
    const deleted = await node.namespace.run(cniProgram, [], { env: { ...env, CNI_COMMAND: 'DEL' }, input });
    assert.equal(deleted.status, 0, `${what}: ${deleted.stdout}`);
  }
  return succeeded;
}

test(`rubbish on the plugin’s standard input and in its environment (seed ${SEED})`, async () => {
  await withLab({ nodes: 1 }, async (lab) => {
    const node = lab.nodes[0]!;
    const agent = await node.startAgent();
    const pod = await node.addPod('pod');
    await pod.serve();
    const target = await node.addPod('target');
    const { path } = target.namespace;
    const { pid } = agent;
    assert.ok((await round(node, path, SEED)) > 10, 'some of it is carried out');
    const [before, resident] = [await rules(node), residentMiB(pid)];
    await round(node, path, SEED + 1);
    assert.equal(agent.pid, pid, 'the agent is the same');
    assert.equal(await rules(node), before, 'no rule came in');
    await lab.waitFor('the memory of before', () => residentMiB(pid) < resident + TOLERANCE_MIB, {
      explain: () => `${resident} MiB, then ${residentMiB(pid)}`,
    });
    const links = JSON.parse(await node.exec('ip', ['-j', 'link', 'show', 'type', 'veth'])) as {
      master?: string;
    }[];
    assert.equal(links.filter(({ master }) => master !== undefined).length, 2, 'the two pods');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
    assert.doesNotMatch(agent.log(), /[\u0000-\u0008\u000b-\u001a\u001c-\u001f]/, 'the log is text');
    assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false);
    const late = await node.addPod('late');
    const answer = await late.probe.ask({ protocol: 'tcp', address: pod.ipv4, port: 8080 });
    assert.deepEqual(answer, { server: 'pod', client: late.ipv4 });
  });
});
