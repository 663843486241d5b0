import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import type { Namespace } from './namespace.ts';

export interface LabProcessOptions {
  readonly name: string;
  readonly namespace: Namespace;
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Standard output and error are appended here. */
  readonly logFile: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** A long-running program in a namespace of the lab, with its output in a file. */
export class LabProcess {
  readonly name: string;
  private readonly options: LabProcessOptions;
  private child: ChildProcess | undefined;
  private exited: Promise<unknown> = Promise.resolve();

  constructor(options: LabProcessOptions) {
    this.name = options.name;
    this.options = options;
  }

  /** The running process's number. @throws Error when it does not run */
  get pid(): number {
    if (!this.running) throw new Error(`${this.name} does not run\n${this.tail()}`);
    return this.child!.pid!;
  }

  get running(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** The exit status of the last run; null while it runs and when a signal ended it. */
  get exitCode(): number | null {
    return this.child?.exitCode ?? null;
  }

  /** Starts it, or starts it again. @param extraArgs are appended to the arguments, for this run only */
  async start(extraArgs: readonly string[] = []): Promise<void> {
    if (this.running) throw new Error(`${this.name} runs already`);
    const { namespace, program, args, cwd, logFile, env } = this.options;
    const log = openSync(logFile, 'a');
    try {
      const settings = { cwd, detached: true, stdio: ['ignore', log, log] as ('ignore' | number)[] };
      this.child = namespace.spawn(
        program,
        [...args, ...extraArgs],
        env === undefined ? settings : { ...settings, env },
      );
      this.exited = once(this.child, 'exit');
      await once(this.child, 'spawn');
    } finally {
      closeSync(log);
    }
  }

  /** Asks it to end (SIGTERM) and waits. @throws Error when it still runs after `timeoutMs` */
  async stop(timeoutMs = 30_000): Promise<void> {
    if (!this.running) return;
    this.child!.kill('SIGTERM');
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `${this.name} did not end within ${timeoutMs} ms of SIGTERM`;
      timer = setTimeout(() => reject(new Error(`${message}\n${this.tail()}`)), timeoutMs);
    });
    await Promise.race([this.exited, late]).finally(() => clearTimeout(timer));
  }

  /** Ends it with SIGKILL and waits. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.child!.kill('SIGKILL');
    await this.exited;
  }

  /** Everything it wrote, over all runs. */
  log(): string {
    return existsSync(this.options.logFile) ? readFileSync(this.options.logFile, 'utf8') : '';
  }

  /** The last lines of the log under a heading, for error messages. */
  tail(lines = 25): string {
    const text = this.log().trimEnd().split('\n').slice(-lines).join('\n');
    return `--- ${this.name} (${this.running ? 'running' : 'ended'}), last lines:\n${text}`;
  }
}
