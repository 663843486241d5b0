import { type ChildProcess, spawn } from 'node:child_process';
import { pipeline, type Readable } from 'node:stream';
import { TwillError } from '../model/error.ts';
import { Output } from './output.ts';

export interface RunOptions {
  /** Text for the child's standard input; a stream's as it comes; `inherit` for our own, of a person at a terminal. */
  readonly input?: string | Buffer | Readable | 'inherit';
  /** Milliseconds until the child is killed; default 60,000. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Bytes of what it prints that are kept, where that may be more than anybody reads: the beginning and the end. */
  readonly mostOutput?: number;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_TIMEOUT_MS = 60_000;
/** A child that has ended has written all it had to say; a pipe that is open still is held by a child of its own. */
const LINGER_MS = 1000;

/** What runs now, each with how to end it. */
const running = new Set<(why: string) => void>();

/** Kills every program that {@link run} has started and that has not ended: so that this process can end. */
export function killChildren(why: string): void {
  for (const kill of [...running]) kill(why);
}

/** The child and all it started; those only that made a group of their own are left. */
function killGroup(child: ChildProcess, grouped: boolean): void {
  if (child.pid === undefined) return;
  try {
    if (grouped) process.kill(-child.pid, 'SIGKILL');
    else child.kill('SIGKILL');
  } catch {
    // it has ended, and its group with it
  }
}

function startError(program: string, cause: NodeJS.ErrnoException): TwillError {
  if (cause.code === 'ENOENT')
    return new TwillError('missing-program', `'${program}' is not installed or not in PATH`, cause);
  // Descriptors, processes or memory that are short now may be there later.
  const passing = ['EMFILE', 'ENFILE', 'EAGAIN', 'ENOMEM'].includes(cause.code ?? '');
  return new TwillError(passing ? 'unavailable' : 'permission', `cannot run '${program}'`, cause);
}

/** One program that runs: its promise is settled once, whatever it and its own children do. */
class Run {
  private readonly child: ChildProcess;
  private readonly name: string;
  private readonly grouped: boolean;
  private readonly stdout: Output;
  private readonly stderr = new Output();
  private readonly timer: NodeJS.Timeout;
  private readonly signal: AbortSignal | undefined;
  private readonly onAbort = (): void => this.kill('was cancelled');
  private readonly onKill = (why: string): void => this.kill(why);
  private readonly resolve: (result: RunResult) => void;
  private readonly reject: (error: Error) => void;
  private linger: NodeJS.Timeout | undefined;

  constructor(
    program: string,
    args: readonly string[],
    options: RunOptions,
    settle: { resolve: (result: RunResult) => void; reject: (error: Error) => void },
  ) {
    const { input, env, signal, timeoutMs = DEFAULT_TIMEOUT_MS, mostOutput } = options;
    this.stdout = new Output(mostOutput);
    this.resolve = settle.resolve;
    this.reject = settle.reject;
    this.name = `'${[program, ...args].join(' ')}'`;
    // A group of its own, to be killed whole. A program that talks with a person needs the terminal's group.
    this.grouped = input !== 'inherit';
    this.child = spawn(program, args, {
      stdio: [input === 'inherit' ? 'inherit' : 'pipe', 'pipe', 'pipe'],
      detached: this.grouped,
      ...(env === undefined ? {} : { env }),
    });
    // Before anything else: without descriptors there are no streams either, and the error comes in the next turn.
    this.child.once('error', (cause) => this.fail(startError(program, cause)));
    this.timer = setTimeout(() => this.kill(`did not finish within ${timeoutMs} ms`), timeoutMs);
    this.signal = signal;
    signal?.addEventListener('abort', this.onAbort, { once: true });
    running.add(this.onKill);
    if (signal?.aborted === true) this.onAbort();
    else this.connect(input);
  }

  private connect(input: RunOptions['input']): void {
    const { stdin, stdout, stderr } = this.child;
    for (const [stream, output] of [
      [stdout, this.stdout],
      [stderr, this.stderr],
    ] as const)
      stream?.on('error', () => {}).on('data', (chunk: Buffer) => output.push(chunk));
    stdin?.on('error', () => {}); // the child may exit without reading; its status tells why
    this.child.once('exit', (status, signal) => this.drain(() => this.end(status, signal)));
    this.child.once('close', (status, signal) => this.end(status, signal));
    if (stdin === null || stdin === undefined) return;
    if (input === undefined || typeof input === 'string' || Buffer.isBuffer(input)) stdin.end(input ?? '');
    else pipeline(input, stdin, () => {});
  }

  /** Calls `done` when nothing comes any more. Two turns of the event loop: it may have been held up all the time. */
  private drain(done: () => void): void {
    this.linger = setTimeout(() => {
      const before = this.received();
      setImmediate(() => setImmediate(() => (this.received() === before ? done() : this.drain(done))));
    }, LINGER_MS);
  }

  private received(): number {
    return this.stdout.received + this.stderr.received;
  }

  private end(status: number | null, signal: NodeJS.Signals | null): void {
    if (!this.settled()) return;
    const text = this.stderr.text() + (signal === null ? '' : `killed by ${signal}`);
    this.resolve({ status: status ?? 128, stdout: this.stdout.text(), stderr: text });
  }

  private fail(error: Error): void {
    if (this.settled()) this.reject(error);
  }

  /** Does not wait for its end: a process that the kernel holds up dies when the kernel lets go. */
  private kill(why: string): void {
    killGroup(this.child, this.grouped);
    this.fail(new TwillError('timeout', `${this.name} ${why}`));
  }

  /** @returns false when it was settled before */
  private settled(): boolean {
    if (!running.delete(this.onKill)) return false;
    clearTimeout(this.timer);
    clearTimeout(this.linger);
    this.signal?.removeEventListener('abort', this.onAbort);
    // Somebody else may hold the other ends for as long as they like.
    for (const stream of [this.child.stdin, this.child.stdout, this.child.stderr]) stream?.destroy();
    this.child.unref();
    return true;
  }
}

/**
 * Runs a program to its end without a shell. A time-out holds whatever the program and its own children do: its process
 * group is killed, and nobody waits for who has left that.
 * @returns its exit status and what it printed, whatever the status
 * @throws TwillError `missing-program` when it is not installed, `permission`, `unavailable` when descriptors or
 *   processes are short, `timeout` when it was killed
 */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    new Run(program, args, options, { resolve, reject });
  });
}

/**
 * Like {@link run}, and an exit status other than 0 is an error.
 * @throws TwillError as {@link refusalCode} has it, with the child's stderr
 */
export async function runChecked(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await run(program, args, options);
  if (result.status !== 0) {
    const detail = result.stderr.trim() || result.stdout.trim() || `exit status ${result.status}`;
    throw new TwillError(refusalCode(detail), `'${program} ${args.join(' ')}' failed: ${detail}`);
  }
  return result.stdout;
}

/** Of what a program says that has failed. */
export function refusalCode(stderr: string): 'permission' | 'kernel' {
  return /permission denied|operation not permitted|read-only file system/i.test(stderr)
    ? 'permission'
    : 'kernel';
}
