// What an operator asks at scale: each inspection command with 5,000 leases and 10,000 Services of 5 endpoints, in each
// mode of the proxy. How long it takes, its peak memory, and what of processor time it costs agent and proxy.
import { readFileSync } from 'node:fs';
import { ask } from '../../src/inspect/client.ts';
import { startBigNode } from '../lab/big-node.ts';
import { twillProgram } from '../lab/files.ts';
import { Lab } from '../lab/lab.ts';
import { leasesNetwork } from '../lab/many-leases.ts';
import { serviceName } from '../lab/many-services.ts';
import type { LabNode } from '../lab/node.ts';
import { kindName, type RulesKind, rulesKinds } from '../lab/service-lab.ts';
import type { Benchmark, Measurement } from './benchmark.ts';

const LEASES = 5000;
const SERVICES = 10_000;

/** What is asked of each: milliseconds and MiB. */
const MOST_MS = 2000;
const MOST_MIB = 200;

interface Own {
  readonly ms: number;
  /** Processor time of the command and of the programs it starts, ms: on a busy machine what counts. */
  readonly ownMs: number;
  readonly peakMiB: number;
}

interface Cost extends Own {
  /** Processor time of agent and proxy, ms. */
  readonly agentMs: number;
  readonly proxyMs: number;
}

const TICK_MS = 10;

/** Processor time so far; 0 once it has ended. @param all that of children that have ended, too */
function processorMs(pid: number, all = false): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    const ticks = fields.slice(11, all ? 15 : 13).map(Number);
    return ticks.reduce((sum, count) => sum + count, 0) * TICK_MS;
  } catch {
    return 0;
  }
}

/** Peak of a process so far; 0 once it has ended. */
function peakMiB(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** What something costs whoever is asked. */
async function costing(node: LabNode, work: () => Promise<Own>): Promise<Cost> {
  const before = [processorMs(node.agent!.pid), processorMs(node.proxy!.pid)] as const;
  const cost = await work();
  return {
    ...cost,
    agentMs: processorMs(node.agent!.pid) - before[0],
    proxyMs: processorMs(node.proxy!.pid) - before[1],
  };
}

/** @throws Error with what it says when it could not look */
async function runCommand(node: LabNode, args: readonly string[]): Promise<Own> {
  const sockets = [`--socket=${node.cniSocket}`, `--proxy-socket=${node.proxySocket}`];
  const begun = performance.now();
  // `ip netns exec` becomes the program: the process is the same.
  const child = node.namespace.spawn(twillProgram, [...args, ...sockets], {
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: node.dir,
  });
  let said = '';
  child.stderr!.on('data', (data: Buffer) => {
    said += data.toString();
  });
  let peak = 0;
  let ownMs = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, peakMiB(child.pid!));
    ownMs = Math.max(ownMs, processorMs(child.pid!, true));
  }, 5);
  const status = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  clearInterval(timer);
  const ms = performance.now() - begun;
  if (status === null || status > 2) throw new Error(`twill ${args.join(' ')} ended with ${status}: ${said}`);
  return { ms, ownMs, peakMiB: peak };
}

function commands(): Readonly<Record<string, readonly string[]>> {
  const middle = serviceName(SERVICES / 2);
  return {
    status: ['status'],
    routes: ['routes'],
    services: ['services'],
    'services NAME': ['services', `team/${middle}`],
    pods: ['pods'],
    diff: ['diff'],
    preflight: ['preflight'],
    report: ['report', '--file=report.tar.gz'],
    'trace SERVICE': ['trace', 'node', `team/${middle}:80`],
    'trace POD': ['trace', 'node', '10.7.7.2:80'],
  };
}

async function measure(kind: RulesKind): Promise<[command: string, cost: Cost][]> {
  const lab = await Lab.start({ nodes: 1, underlay: 'ipv4', networkConfig: leasesNetwork });
  try {
    const node = lab.nodes[0]!;
    await startBigNode(lab, { leases: LEASES, services: SERVICES, kind });
    await node.addPod('pod');
    const costs: [string, Cost][] = [];
    const loop = await costing(node, async () => {
      const begun = performance.now();
      await ask('agent', node.cniSocket, { inspect: 'repair' }, 60_000);
      return { ms: performance.now() - begun, ownMs: 0, peakMiB: 0 };
    });
    costs.push(['(one comparison with the kernel)', loop]);
    for (const [name, args] of Object.entries(commands()))
      costs.push([name, await costing(node, () => runCommand(node, args))]);
    return costs;
  } finally {
    await lab.stop();
  }
}

function row(cells: readonly (string | number)[]): string {
  return cells
    .map((cell, index) => (index === 0 ? String(cell).padEnd(34) : String(cell).padStart(10)))
    .join('');
}

export const benchmark: Benchmark = {
  name: 'inspect',
  onlyNamed: true,
  run: async ({ progress }) => {
    const all: Measurement[] = [];
    for (const kind of rulesKinds) {
      const costs = await measure(kind);
      progress(
        row([`${kindName(kind)}, with ${SERVICES} Services`, 'ms', 'own ms', 'MiB', 'agent ms', 'proxy ms']),
      );
      for (const [name, { ms, ownMs, peakMiB: mib, agentMs, proxyMs }] of costs) {
        progress(row([name, Math.round(ms), ownMs, Math.round(mib), agentMs, proxyMs]));
        if (name.startsWith('(')) continue;
        const work = `twill ${name}, ${LEASES} leases, ${SERVICES} Services, ${kindName(kind)}`;
        all.push({ work, subject: 'twill', value: ms, unit: 'ms', atMost: MOST_MS });
        all.push({ work: `memory of ${work}`, subject: 'twill', value: mib, unit: 'MiB', atMost: MOST_MIB });
      }
    }
    return all;
  },
};
