// How long a pod's new connections take: without any rules, past them, and through the first and the last of the Services.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { runChecked } from '../../src/kernel/process.ts';
import { writeSysctl } from '../../src/kernel/sysctl.ts';
import { clusterAddress, endpointAddress, endpointsPerService } from '../lab/many-services.ts';
import { quantile } from './proxy-churn.ts';
import { pause } from './proxy-kernel.ts';

const WARM_UP = 500;
const CONNECTIONS = 4000;
/** A pod that is no endpoint. */
const CLIENT = '10.191.255.254';
const GATEWAY = '169.254.1.1';
const PORT = 8080;

export interface Latency {
  readonly medianUs: number;
  readonly p99Us: number;
}

export interface Latencies {
  readonly noRules: Latency;
  readonly noService: Latency;
  readonly first: Latency;
  readonly last: Latency;
}

const server = `
const { createServer } = require('node:net');
createServer((socket) => { socket.on('error', () => {}); socket.destroy(); })
  .listen({ port: ${PORT}, host: '0.0.0.0', backlog: 4096 }, () => console.log('ready'));
process.stdin.resume().on('end', () => process.exit());`;

/** A pod: a process in a network namespace of its own, which ends with it, behind a veth of this one. */
async function startPod(
  name: string,
  args: readonly string[],
  addresses: readonly string[],
): Promise<ChildProcess> {
  const child = spawn('unshare', ['--net', process.execPath, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  // It is in its namespace once it is the program.
  const own = await runChecked('readlink', ['/proc/self/ns/net']);
  while ((await runChecked('readlink', [`/proc/${child.pid}/ns/net`])) === own) await pause(5);
  const pid = String(child.pid);
  const inside = (...command: string[]): Promise<string> =>
    runChecked('nsenter', ['--net', '--target', pid, 'ip', ...command]);
  await runChecked('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pid]);
  await runChecked('ip', ['link', 'set', name, 'up']);
  await runChecked('ip', ['address', 'add', `${GATEWAY}/32`, 'dev', name]);
  await inside('link', 'set', 'lo', 'up');
  await inside('link', 'set', 'eth0', 'up');
  for (const address of addresses) {
    await inside('address', 'add', `${address}/32`, 'dev', 'eth0');
    await runChecked('ip', ['route', 'add', `${address}/32`, 'dev', name]);
  }
  await inside('route', 'add', GATEWAY, 'dev', 'eth0');
  await inside('route', 'add', 'default', 'via', GATEWAY, 'dev', 'eth0');
  return child;
}

/** Two pods on this node: one that serves for the first and the last Service, and one that connects. */
export class LatencyProbe {
  private readonly children: readonly ChildProcess[];
  private readonly client: ChildProcess;
  private readonly answers: AsyncIterator<string>;
  private readonly lines: Interface;
  private readonly targets: Readonly<Record<'direct' | 'first' | 'last', string>>;
  private noRules: Latency | undefined;

  private constructor(pod: ChildProcess, client: ChildProcess, services: number) {
    this.children = [pod, client];
    this.client = client;
    this.lines = createInterface({ input: client.stdout! });
    this.answers = this.lines[Symbol.asyncIterator]();
    this.targets = {
      direct: `${endpointAddress(0)}:${PORT}`,
      first: `${clusterAddress(0)}:80`,
      last: `${clusterAddress(services - 1)}:80`,
    };
  }

  static async start(services: number): Promise<LatencyProbe> {
    writeSysctl('net/ipv4/ip_forward', '1');
    const numbers = [0, services - 1].flatMap((index) =>
      Array.from({ length: endpointsPerService }, (_, endpoint) => index * endpointsPerService + endpoint),
    );
    const pod = await startPod('server', ['-e', server], [...new Set(numbers.map(endpointAddress))]);
    await once(pod.stdout!, 'data');
    const client = await startPod('client', [join(import.meta.dirname, 'proxy-connect.js')], [CLIENT]);
    return new LatencyProbe(pod, client, services);
  }

  /** Call while there are no rules. */
  async withoutRules(): Promise<void> {
    await this.ask([this.targets.direct], WARM_UP);
    [this.noRules] = await this.ask([this.targets.direct], CONNECTIONS);
  }

  async measure(): Promise<Latencies> {
    const { direct, first, last } = this.targets;
    await this.ask([direct, first, last], WARM_UP);
    const [noService, ofFirst, ofLast] = await this.ask([direct, first, last], CONNECTIONS);
    return { noRules: this.noRules!, noService: noService!, first: ofFirst!, last: ofLast! };
  }

  async end(): Promise<void> {
    for (const child of this.children) {
      const ended = once(child, 'exit');
      child.stdin!.end();
      await ended;
    }
  }

  private async ask(targets: readonly string[], times: number): Promise<Latency[]> {
    this.client.stdin!.write(`${JSON.stringify({ targets, times })}\n`);
    const { value, done } = await this.answers.next();
    if (done === true) throw new Error('the connecting pod has ended');
    return (JSON.parse(value) as number[][]).map((took) => ({
      medianUs: quantile(took, 0.5),
      p99Us: quantile(took, 0.99),
    }));
  }
}
