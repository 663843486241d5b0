import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import {
  cleanUp,
  guardFile,
  listOwners,
  makeOwnerId,
  namespacePrefix,
  ownerDirectory,
  ownerVariable,
  startTime,
} from './cleanup.ts';

const keptFile = 'kept';

function isAbandoned(id: string): boolean {
  const directory = ownerDirectory(id);
  if (existsSync(join(directory, keptFile))) return false;
  try {
    const [pid, started] = readFileSync(join(directory, guardFile), 'utf8').split(' ');
    return startTime(Number(pid)) !== started;
  } catch {
    // Made a moment ago, or its guard was killed in that moment.
    const made = statSync(directory, { throwIfNoEntry: false })?.mtimeMs;
    return made !== undefined && Date.now() - made > 60_000;
  }
}

/** The labs left standing on purpose (`--keep`). */
export function listKept(): string[] {
  return listOwners().filter((id) => existsSync(join(ownerDirectory(id), keptFile)));
}

/** Started and not yet closed, the ones that are just being started included. */
const open = new Set<Promise<Guard>>();
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A signal ends the process only after everything has been removed. */
async function endAfterCleaning(signal: NodeJS.Signals): Promise<void> {
  await Promise.allSettled([...open].map(async (guard) => (await guard).close()));
  for (const each of signals) process.removeListener(each, endAfterCleaning);
  process.kill(process.pid, signal);
}

function remember(guard: Promise<Guard>): void {
  if (open.size === 0) for (const signal of signals) process.on(signal, endAfterCleaning);
  open.add(guard);
}

function forget(guard: Promise<Guard>): void {
  open.delete(guard);
  if (open.size === 0) for (const signal of signals) process.removeListener(signal, endAfterCleaning);
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
  static start(): Promise<Guard> {
    // A signal from now on waits for what is started below.
    const guard = Promise.resolve().then(() => Guard.launch());
    remember(guard);
    guard.then(
      ({ exited }) => exited.then(() => forget(guard)),
      () => forget(guard),
    );
    return guard;
  }

  private static async launch(): Promise<Guard> {
    for (const abandoned of listOwners().filter(isAbandoned)) {
      // What another lab left must not keep this one from starting.
      await cleanUp(abandoned).catch((error: Error) => process.stderr.write(`${error.message}\n`));
    }
    const id = makeOwnerId();
    const child = spawn(process.execPath, [join(import.meta.dirname, 'guard-process.js'), id], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
      // A guard outlives what it guards: that of a guarded process ends last, and is nobody's.
      env: { ...process.env, [ownerVariable]: '' },
    });
    child.stdin.on('error', () => {});
    const ready = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
    if (!Buffer.isBuffer(ready[0])) throw new Error('the guard of the lab did not start');
    child.unref();
    (child.stdin as Writable & { unref(): void }).unref();
    (child.stdout as Readable & { unref(): void }).unref();
    return new Guard(id, child);
  }

  /** Removes everything and resolves when it is gone. @throws Error when something could not be removed */
  async close(): Promise<void> {
    this.child.ref();
    this.child.stdin!.end();
    const [status] = await this.exited;
    if (status !== 0) throw new Error(`lab ${this.id}: the guard could not remove everything`);
  }

  /** Leaves everything standing after this process has ended; `cleanUp(id)` removes it. */
  async keep(): Promise<void> {
    writeFileSync(join(this.directory, keptFile), '');
    this.child.ref();
    this.child.stdin!.end('keep');
    await this.exited;
  }
}

/**
 * Guards this process itself: whatever it starts from now on, and every temporary file of it and of what it starts, goes
 * when it ends in any way, SIGKILL included.
 */
export async function guardThisProcess(): Promise<Guard> {
  const guard = await Guard.start();
  process.env.TMPDIR = guard.directory;
  process.env[ownerVariable] = guard.id;
  return guard;
}

let shared: Promise<Guard> | undefined;

/** The lock of iptables-legacy is one of the machine: other tests' tables would make these wait, here and in namespaces. */
function withOwnLock(guard: Guard): Guard {
  const lock = join(guard.directory, 'xtables.lock');
  for (const environment of [process.env, guard.environment]) environment.XTABLES_LOCKFILE = lock;
  return guard;
}

/** The guard of what tests make one by one; it lasts until the process ends. */
export function sharedGuard(): Promise<Guard> {
  shared ??= Guard.start().then(withOwnLock);
  return shared;
}
