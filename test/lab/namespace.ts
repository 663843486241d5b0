import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { inNetns } from '../../src/kernel/netns.ts';
import { type RunOptions, type RunResult, run, runChecked } from '../../src/kernel/process.ts';
import { writeSysctl } from '../../src/kernel/sysctl.ts';
import { ipNetns, namespaceFolder } from './cleanup.ts';
import { type Guard, sharedGuard } from './guard.ts';

/** One network namespace with its loopback up. Everything in it ends with it, and it ends with its guard. */
export class Namespace {
  readonly name: string;
  readonly path: string;
  private readonly guard: Guard;
  /** What was started and still runs: it may not have entered the namespace yet. */
  private readonly children = new Set<ChildProcess>();

  private constructor(name: string, guard: Guard) {
    this.name = name;
    this.path = join(namespaceFolder, name);
    this.guard = guard;
  }

  /** @param label ends the name, which starts with the guard's prefix */
  static async make(label: string, guard: Guard): Promise<Namespace> {
    const namespace = new Namespace(guard.namespacePrefix + label, guard);
    await ipNetns('add', namespace.name);
    await runChecked('ip', ['-n', namespace.name, 'link', 'set', 'lo', 'up'], { env: guard.environment });
    return namespace;
  }

  /** The namespace that a process is in, which somebody else made; it stays until `remove()`, as any other. */
  static async attach(label: string, pid: number, guard: Guard): Promise<Namespace> {
    const namespace = new Namespace(guard.namespacePrefix + label, guard);
    await ipNetns('attach', namespace.name, String(pid));
    return namespace;
  }

  /** Where files that belong to what runs inside may lie; removed with the guard. */
  get directory(): string {
    return this.guard.directory;
  }

  /** Runs a program inside to its end. @returns its standard output @throws TwillError `kernel` with its standard error */
  exec(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    return runChecked('ip', this.command(program, args), this.withOwner(options));
  }

  /** Like `exec`, and returns the exit status and both outputs whatever the status. */
  run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run('ip', this.command(program, args), this.withOwner(options));
  }

  /** Starts a program inside. `ip netns exec` replaces itself by it, so the child's number is the program's. */
  spawn(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn('ip', this.command(program, args), this.withOwner(options));
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Sets kernel parameters inside, e.g. `{'net/ipv4/ip_forward': '1'}`. */
  sysctl(settings: Readonly<Record<string, string>>): void {
    inNetns(this.path, () => {
      for (const [name, value] of Object.entries(settings)) writeSysctl(name, value);
    });
  }

  /** Runs a list of `ip` commands inside in one process, e.g. `link add dummy0 type dummy`. */
  async ip(...commands: string[]): Promise<string> {
    return await runChecked('ip', ['-n', this.name, '-batch', '-'], {
      input: `${commands.join('\n')}\n`,
      env: this.guard.environment,
    });
  }

  /** Ends what runs inside and removes it; removing it twice is fine. */
  async remove(): Promise<void> {
    const exits = [...this.children].map((child) => once(child, 'exit'));
    for (const child of this.children) child.kill('SIGKILL');
    await Promise.all(exits);
    const pids = await run('ip', ['netns', 'pids', this.name]);
    for (const pid of pids.stdout.split('\n').filter((line) => line !== '')) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // it ended meanwhile
      }
    }
    if (pids.status === 0) await ipNetns('del', this.name);
  }

  private command(program: string, args: readonly string[]): string[] {
    return ['netns', 'exec', this.name, program, ...args];
  }

  private withOwner<T extends { env?: NodeJS.ProcessEnv | undefined }>(
    options: T,
  ): T & { env: NodeJS.ProcessEnv } {
    return { ...options, env: { ...this.guard.environment, ...options.env } };
  }
}

let counter = 0;

/** A fresh namespace for a test; removed by `remove()`, at the latest when this process ends. */
export async function makeNamespace(label = 'test'): Promise<Namespace> {
  return Namespace.make(`${label}${++counter}`, await sharedGuard());
}

/** Runs `work` with a fresh namespace and removes it whatever happens. */
export async function withNamespace<T>(
  label: string,
  work: (namespace: Namespace) => Promise<T>,
): Promise<T> {
  const namespace = await makeNamespace(label);
  try {
    return await work(namespace);
  } finally {
    await namespace.remove();
  }
}
