import { spawn } from 'node:child_process';
import { pipeline, type Readable } from 'node:stream';
import { TwillError } from '../model/error.ts';

export interface RunOptions {
  /** Text for the child's standard input; a stream's as it comes. */
  readonly input?: string | Buffer | Readable;
  /** Milliseconds until the child is killed; default 60,000. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * Runs a program to its end without a shell.
 * @returns its exit status and what it printed, whatever the status
 * @throws TwillError `missing-program` when it is not installed, `permission`, `timeout` when it was killed
 */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stopped: string | undefined;
    const kill = (why: string): void => {
      stopped = why;
      child.kill('SIGKILL');
    };
    const timeout = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const timer = setTimeout(() => kill(`did not finish within ${timeout} ms`), timeout);
    const onAbort = (): void => kill('was cancelled');
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => {}); // the child may exit without reading; its status tells why
    child.once('error', (cause: NodeJS.ErrnoException) => {
      settle();
      const missing = cause.code === 'ENOENT';
      const message = missing ? `'${program}' is not installed or not in PATH` : `cannot run '${program}'`;
      reject(new TwillError(missing ? 'missing-program' : 'permission', message, cause));
    });
    child.once('close', (status, signal) => {
      settle();
      if (stopped !== undefined)
        reject(new TwillError('timeout', `'${program} ${args.join(' ')}' ${stopped}`));
      else {
        const text = Buffer.concat(stderr).toString() + (signal === null ? '' : `killed by ${signal}`);
        resolve({ status: status ?? 128, stdout: Buffer.concat(stdout).toString(), stderr: text });
      }
    });
    const { input } = options;
    if (input === undefined || typeof input === 'string' || Buffer.isBuffer(input))
      child.stdin.end(input ?? '');
    else pipeline(input, child.stdin, () => {});
  });
}

/** Like {@link run}, and an exit status other than 0 is an error. @throws TwillError `kernel` with the child's stderr */
export async function runChecked(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await run(program, args, options);
  if (result.status !== 0) {
    const detail = result.stderr.trim() || result.stdout.trim() || `exit status ${result.status}`;
    throw new TwillError('kernel', `'${program} ${args.join(' ')}' failed: ${detail}`);
  }
  return result.stdout;
}
