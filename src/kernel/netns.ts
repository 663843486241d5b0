import { closeSync, openSync } from 'node:fs';
import { TwillError } from '../model/error.ts';
import { kernelError } from './errno.ts';
import { lastErrno, libc } from './libc.ts';

const CLONE_NEWNET = 0x40000000;

function setns(fd: number): number {
  return libc().setns(fd, CLONE_NEWNET) === 0 ? 0 : lastErrno();
}

/**
 * Index of a device in the calling thread's network namespace, undefined when there is none of that name; synchronous,
 * so it works inside {@link inNetns}.
 */
export function findInterfaceIndex(name: string): number | undefined {
  const index = libc().if_nametoindex(name);
  return index === 0 ? undefined : index;
}

/**
 * Runs `work` with the calling thread inside the network namespace at `path` and comes back. `work` must be
 * synchronous: JavaScript of other tasks would otherwise run in the wrong namespace. Sockets opened and processes
 * spawned in it stay in that namespace; `/proc/sys/net` shows that namespace's values meanwhile.
 *
 * If the thread cannot come back the process ends at once (exit status 70): going on would program the wrong
 * namespace.
 * @throws TwillError `not-found` when `path` does not exist, `permission`, `invalid` when it is no network namespace
 */
export function inNetns<T>(path: string, work: () => T extends Promise<unknown> ? never : T): T {
  let target: number;
  try {
    target = openSync(path, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'not-found' : 'permission';
    throw new TwillError(code, `cannot open network namespace '${path}'`, cause);
  }
  let home: number | undefined;
  try {
    home = openSync('/proc/thread-self/ns/net', 'r');
    const errno = setns(target);
    if (errno !== 0) {
      if (errno === 22) throw new TwillError('invalid', `'${path}' is not a network namespace`);
      throw kernelError(`enter network namespace '${path}'`, errno);
    }
    try {
      return work();
    } finally {
      const back = setns(home);
      if (back !== 0) {
        process.stderr.write(`fatal: ${kernelError('return to the own network namespace', back).message}\n`);
        process.exit(70);
      }
    }
  } finally {
    closeSync(target);
    if (home !== undefined) closeSync(home);
  }
}
