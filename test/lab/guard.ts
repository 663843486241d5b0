import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import {
  cleanUp,
  listOwners,
  makeOwnerId,
  markNamespaceFolder,
  namespacePrefix,
  ownerDirectory,
  ownerVariable,
} from './cleanup.ts';

const guardFile = 'guard';
const keptFile = 'kept';

/** The process's start time, which tells it from a later one with the same number; undefined when there is none. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function isAbandoned(id: string): boolean {
  const directory = ownerDirectory(id);
  if (existsSync(join(directory, keptFile))) return false;
  try {
    const [pid, started] = readFileSync(join(directory, guardFile), 'utf8').split(' ');
    return startTime(Number(pid)) !== started;
  } catch {
    // Made a moment ago, or its owner died between making it and starting the guard.
    const made = statSync(directory, { throwIfNoEntry: false })?.mtimeMs;
    return made !== undefined && Date.now() - made > 60_000;
  }
}

/** The labs left standing on purpose (`--keep`). */
export function listKept(): string[] {
  return listOwners().filter((id) => existsSync(join(ownerDirectory(id), keptFile)));
}

const open = new Set<Guard>();

/** A signal ends the process only after everything has been removed. */
function endAfterCleaning(signal: NodeJS.Signals): void {
  Promise.allSettled([...open].map((guard) => guard.close())).then(() => {
    process.removeListener(signal, endAfterCleaning);
    process.kill(process.pid, signal);
  });
}

/**
 * Owns a temporary directory, a prefix of namespace names and a detached process that removes both, and every
 * process inside, when `close()` is called or this process ends in any way, SIGKILL included.
 */
export class Guard {
  readonly id: string;
  readonly directory: string;
  /** Every namespace whose name starts with this is removed with the guard. */
  readonly namespacePrefix: string;
  /** Environment of every process that is to end with the guard. */
  readonly environment: NodeJS.ProcessEnv;
  private readonly child: ChildProcess;
  private readonly exited: Promise<unknown[]>;

  private constructor(id: string, child: ChildProcess) {
    this.id = id;
    this.child = child;
    this.directory = ownerDirectory(id);
    this.namespacePrefix = namespacePrefix(id);
    this.environment = { ...process.env, [ownerVariable]: id };
    this.exited = once(child, 'exit');
  }

  /** Sweeps what owners left whose guard was killed too, then starts a guard. */
  static async start(): Promise<Guard> {
    for (const abandoned of listOwners().filter(isAbandoned)) await cleanUp(abandoned);
    const id = makeOwnerId();
    const directory = ownerDirectory(id);
    mkdirSync(directory, { mode: 0o755 });
    const child = spawn(process.execPath, [join(import.meta.dirname, 'guard-process.js'), id], {
      detached: true,
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    await once(child, 'spawn');
    writeFileSync(join(directory, guardFile), `${child.pid} ${startTime(child.pid!)}`);
    markNamespaceFolder(id);
    const guard = new Guard(id, child);
    child.unref();
    (child.stdin as Writable & { unref(): void }).unref();
    child.stdin!.on('error', () => {});
    if (open.size === 0)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, endAfterCleaning);
    open.add(guard);
    return guard;
  }

  /** Removes everything and resolves when it is gone. @throws Error when something could not be removed */
  async close(): Promise<void> {
    this.child.ref();
    this.child.stdin!.end();
    const [status] = await this.exited;
    this.forget();
    if (status !== 0) throw new Error(`lab ${this.id}: the guard could not remove everything`);
  }

  /** Leaves everything standing after this process has ended; `cleanUp(id)` removes it. */
  async keep(): Promise<void> {
    writeFileSync(join(this.directory, keptFile), '');
    this.child.ref();
    this.child.stdin!.end('keep');
    await this.exited;
    this.forget();
  }

  private forget(): void {
    open.delete(this);
    if (open.size > 0) return;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.removeListener(signal, endAfterCleaning);
  }
}

let shared: Promise<Guard> | undefined;

/** The guard of what tests make one by one; it lasts until the process ends. */
export function sharedGuard(): Promise<Guard> {
  shared ??= Guard.start();
  return shared;
}
