// One measurement, run inside a network namespace of its own by proxy.ts: an API server here, the real proxy beside it.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { run, runChecked } from '../../src/kernel/process.ts';
import { twillProgram } from '../lab/files.ts';
import { KubeApi } from '../lab/kube-api.ts';
import { benchService, benchSlice, endpointsPerService } from './proxy-data.ts';

export interface ProxyMeasurement {
  readonly variant: string;
  readonly services: number;
  /** From the start of the process until the rules stand. */
  readonly startToRulesMs: number;
  /** Within that: reading the kernel's rules, rendering and writing. */
  readonly fullSyncMs: number;
  /** From the API's event until the kernel has the rule, each of the changes. */
  readonly changeMs: readonly number[];
  /** Size of the document for one of them. */
  readonly changeBytes: number;
  /** The same for a Service that is created with its slice, and deleted. */
  readonly serviceMs: readonly number[];
  /** From the start until a second process found the standing rules right. */
  readonly restartMs: number;
  readonly peakMemoryMiB: number;
}

interface SyncLine {
  readonly msg: string;
  readonly family?: string;
  readonly bytes: number;
  readonly ms: number;
  readonly at: number;
}

const changes = 15;

/** The proxy under measurement; hands out its log lines of finished syncs. */
class Subject {
  readonly startedAt = Date.now();
  private readonly child: ChildProcess;
  private readonly lines: SyncLine[] = [];
  private wake: (() => void) | undefined;
  private readonly exited: Promise<unknown>;

  constructor(master: string) {
    const flags = [
      `--master=${master}`,
      '--cluster-cidr=10.128.0.0/10',
      '--hostname-override=node-0',
      '--log-level=debug',
    ];
    this.child = spawn(process.execPath, [twillProgram, 'proxy', ...flags], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    this.exited = new Promise((resolve) => this.child.once('exit', resolve));
    createInterface({ input: this.child.stderr! }).on('line', (text) => {
      const line = JSON.parse(text) as SyncLine;
      if (line.msg === 'rules in sync' && line.family === 'ipv4') {
        this.lines.push({ ...line, at: Date.now() });
        this.wake?.();
      } else if ((line as unknown as { level: number }).level >= 40) process.stderr.write(`${text}\n`);
    });
  }

  /** The next finished sync of IPv4. */
  async next(): Promise<SyncLine> {
    while (this.lines.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.lines.shift()!;
  }

  drop(): void {
    this.lines.length = 0;
  }

  peakMemoryMiB(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024;
  }

  async end(): Promise<void> {
    this.child.kill('SIGTERM');
    await this.exited;
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function timed(subject: Subject, act: () => void): Promise<{ ms: number; bytes: number }> {
  await pause(150); // longer than the least interval between two syncs: what is measured is one change, not its queue
  subject.drop();
  const start = Date.now();
  act();
  for (;;) {
    const { bytes, at } = await subject.next();
    if (bytes > 0) return { ms: at - start, bytes };
  }
}

async function verify(variant: string, services: number): Promise<void> {
  const rules = await runChecked(`iptables-${variant}-save`, ['-t', 'nat']);
  const count = rules.match(/-j DNAT /g)?.length ?? 0;
  if (count !== services * endpointsPerService)
    throw new Error(`${count} DNAT rules stand, not ${services} × ${endpointsPerService}`);
}

async function measure(variant: string, services: number): Promise<ProxyMeasurement> {
  await run(`iptables-${variant}`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
  await run(`ip6tables-${variant}`, ['-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']);
  const api = await KubeApi.start();
  for (let index = 0; index < services; index++) {
    api.put(benchService(index));
    api.put(benchSlice(index));
  }
  let subject = new Subject(api.url);
  const first = await subject.next();
  const startToRulesMs = first.at - subject.startedAt;
  await verify(variant, services);
  while (api.watcherCount < 3) await pause(10);
  const changeMs: number[] = [];
  const serviceMs: number[] = [];
  let changeBytes = 0;
  for (let round = 1; round <= changes; round++) {
    const index = Math.floor((services * round) / (changes + 1));
    const { ms, bytes } = await timed(subject, () => api.put(benchSlice(index, round)));
    changeMs.push(ms);
    changeBytes = bytes;
  }
  await verify(variant, services);
  for (let round = 1; round <= 5; round++) {
    const index = services + round;
    const coming = await timed(subject, () => {
      api.put(benchSlice(index));
      api.put(benchService(index));
    });
    const going = await timed(subject, () => api.delete(benchService(index)));
    serviceMs.push(coming.ms, going.ms);
  }
  await verify(variant, services);
  const peakMemoryMiB = subject.peakMemoryMiB();
  await subject.end();
  subject = new Subject(api.url);
  const again = await subject.next();
  const restartMs = again.at - subject.startedAt;
  if (again.bytes > 0) throw new Error(`a restart wrote ${again.bytes} bytes over rules that were right`);
  const peak = Math.max(peakMemoryMiB, subject.peakMemoryMiB());
  await subject.end();
  await api.stop();
  return {
    variant,
    services,
    startToRulesMs,
    fullSyncMs: first.ms,
    changeMs,
    changeBytes,
    serviceMs,
    restartMs,
    peakMemoryMiB: peak,
  };
}

const [variant, services] = process.argv.slice(2) as [string, string];
process.stdout.write(`${JSON.stringify(await measure(variant, Number(services)))}\n`);
