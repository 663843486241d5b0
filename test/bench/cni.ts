// What CNI calls cost. The benchmark makes a node namespace and runs this file as a program inside it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { listLinks } from '../../src/kernel/netlink/links.ts';
import { RtSocket } from '../../src/kernel/netlink/socket.ts';
import { runChecked } from '../../src/kernel/process.ts';
import { cniExecutable } from '../lab/cni-node.ts';
import { makeNamespace } from '../lab/namespace.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import {
  assertPlugins,
  type Contestant,
  environment,
  install,
  peerChain,
  required,
  twill,
} from './cni-contestants.ts';
import { execute } from './spawn.ts';

const PODS = 100;
const IN_FLIGHT = 10;

interface Figures {
  readonly add: number;
  readonly remove: number;
  readonly addMany: number;
  readonly removeMany: number;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Runs `work` for each item with at most `limit` at a time. */
async function inParallel<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = [...items];
  const worker = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

/** Resolves when no veth is left in this namespace. */
async function allGone(socket: RtSocket): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const left = (await listLinks(socket)).filter(({ kind }) => kind === 'veth');
    if (left.length === 0) return;
    if (performance.now() > deadline)
      throw new Error(`still there: ${left.map(({ name }) => name).join(', ')}`);
  }
}

async function measure(contestants: readonly Contestant[], pods: readonly string[]): Promise<Figures[]> {
  const socket = new RtSocket();
  for (const { add, remove } of contestants)
    for (const pod of pods.slice(0, 5)) await add(pod).then(() => remove(pod));
  // One after the other in turn, so that both meet the same conditions of the machine.
  const single = contestants.map(() => ({ add: [] as number[], remove: [] as number[] }));
  for (const pod of pods) {
    for (const [index, { add, remove }] of contestants.entries()) {
      single[index]?.add.push(await timed(() => add(pod)));
      single[index]?.remove.push(await timed(() => remove(pod)));
    }
  }
  const figures: Figures[] = [];
  for (const [index, { add, remove }] of contestants.entries()) {
    const addMany = await timed(() => inParallel(pods, IN_FLIGHT, add));
    const removeMany = await timed(async () => {
      await inParallel(pods, pods.length, remove);
      await allGone(socket);
    });
    const { add: adds = [], remove: removes = [] } = single[index] ?? {};
    figures.push({ add: median(adds), remove: median(removes), addMany, removeMany });
  }
  socket.close();
  return figures;
}

/** Peak resident memory of the executable in KiB, read while it waits for its answer. */
async function executableMemory(scratch: string): Promise<number> {
  const socketPath = join(scratch, 'memory.sock');
  let child: ChildProcess | undefined;
  let peak = 0;
  const server = createServer((socket) => {
    socket.on('data', () => {
      const status = readFileSync(`/proc/${child?.pid}/status`, 'utf8');
      peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]);
      socket.end('{"status":0,"output":""}\n');
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  child = spawn(cniExecutable, [], {
    env: environment('ADD', 'memory', ''),
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  child.stdin?.end(JSON.stringify({ cniVersion: '1.0.0', name: 'twill', type: 'twill', socket: socketPath }));
  await once(child, 'exit');
  server.close();
  return peak;
}

async function startServer(scratch: string, socketPath: string): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '../lab/cni-server.js');
  const args = [program, socketPath, join(scratch, 'state'), '10.244.0.0/16=10.244.7.0/24'];
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(server.stdout as NodeJS.ReadableStream, 'data');
  return server;
}

/** What runs inside the node namespace. */
async function inside(scratch: string, prefix: string, peer: string | undefined): Promise<Outcome> {
  const socketPath = join(scratch, 'cni.sock');
  mkdirSync(join(scratch, 'state'));
  const server = await startServer(scratch, socketPath);
  const pods = Array.from({ length: PODS }, (_, index) => `${prefix}${index}`);
  for (const pod of pods) await runChecked('ip', ['netns', 'add', pod]);
  const own = install([cniExecutable], join(scratch, 'bin'));
  const contestants = [twill(join(own, basename(cniExecutable)), socketPath)];
  if (peer !== undefined) {
    const plugins = ['flannel', ...required]
      .map((name) => join(peer, name))
      .filter((path) => existsSync(path));
    contestants.push(await peerChain(install(plugins, join(scratch, 'peer')), scratch));
  }
  const nothing: number[] = [];
  for (const _ of pods) nothing.push(await timed(() => execute('/bin/true', {}, '')));
  const figures = await measure(contestants, pods);
  const serverMemory = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]);
  const memory = await executableMemory(scratch);
  server.kill();
  for (const pod of pods) await runChecked('ip', ['netns', 'del', pod]);
  return {
    nothing: median(nothing),
    names: contestants.map(({ name }) => name),
    figures,
    memory,
    serverMemory,
  };
}

interface Outcome {
  /** Milliseconds that a program takes that does nothing: machines in the cloud have slow hours. */
  readonly nothing: number;
  readonly names: readonly string[];
  readonly figures: readonly Figures[];
  readonly memory: number;
  readonly serverMemory: number;
}

function measurements({ names, figures, memory, serverMemory }: Outcome): Measurement[] {
  const peer = figures[1];
  const works = [
    ['ADD, median of 100', 'add', 12],
    ['DEL, median of 100', 'remove', 30],
    [`100 ADD, ${IN_FLIGHT} in flight`, 'addMany', undefined],
    ['100 DEL at once, until all links are gone', 'removeMany', 500],
  ] as const;
  return [
    ...works.flatMap(([work, key, limit]) =>
      figures.map((figure, index): Measurement => {
        const half = key === 'removeMany' || peer === undefined ? Number.POSITIVE_INFINITY : peer[key] / 2;
        const most = Math.min(limit ?? half, half);
        const atMost = index > 0 || most === Number.POSITIVE_INFINITY ? {} : { atMost: most };
        return { work, subject: names[index] ?? '', value: figure[key], unit: 'ms', ...atMost };
      }),
    ),
    { work: 'peak memory of the executable', subject: 'twill', value: memory / 1024, unit: 'MiB' },
    { work: 'peak memory of a server alone', subject: 'twill', value: serverMemory / 1024, unit: 'MiB' },
  ];
}

export const benchmark: Benchmark = {
  name: 'cni',
  async run({ peerCniDir, progress }) {
    if (peerCniDir !== undefined) assertPlugins(peerCniDir);
    if (peerCniDir !== undefined && !existsSync(join(peerCniDir, 'flannel')))
      progress('  no flannel in the peer folder: what it delegates to is called directly, one program less');
    const scratch = mkdtempSync(join(tmpdir(), 'twill-bench-'));
    const node = await makeNamespace('bench');
    try {
      const args = [import.meta.filename, '--inside', scratch, '--prefix', node.name.replace('bench', 'p')];
      if (peerCniDir !== undefined) args.push('--peer-cni-dir', peerCniDir);
      const output = await node.exec(process.execPath, args, { timeoutMs: 300_000 });
      const outcome = JSON.parse(output) as Outcome;
      progress(`  a program that does nothing takes ${outcome.nothing.toFixed(2)} ms`);
      return measurements(outcome);
    } finally {
      await node.remove();
      rmSync(scratch, { recursive: true, force: true });
    }
  },
};

if (process.argv[1] === import.meta.filename) {
  const options = {
    'peer-cni-dir': { type: 'string' },
    inside: { type: 'string', default: '' },
    prefix: { type: 'string', default: 'p' },
  } as const;
  const { values } = parseArgs({ options });
  process.stdout.write(JSON.stringify(await inside(values.inside, values.prefix, values['peer-cni-dir'])));
  process.exit(0);
}
