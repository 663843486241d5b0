import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { TwillError } from '../model/error.ts';
import { kernelError } from './errno.ts';
import { lastErrno, libc } from './libc.ts';

const CLONE_NEWNET = 0x40000000;
const ENODEV = 19;
/** _IO(0xb7, 3): the kind of a namespace, as a CLONE_NEW* flag. Refused for everything that is no namespace. */
const NS_GET_NSTYPE = 0xb703;
// A path may be anything: a pipe would keep the whole process waiting for its other end.
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * An open network namespace. What a path leads to can change from one look to the next (a process number that is used
 * again, a mount that is replaced); a descriptor cannot.
 */
export interface Netns {
  readonly fd: number;
  /** Where it was found, for messages. */
  readonly path: string;
  /** The same for two descriptors exactly when they are of one namespace. */
  readonly id: string;
}

function setns(fd: number): number {
  return libc().setns(fd, CLONE_NEWNET) === 0 ? 0 : lastErrno();
}

const idOf = ({ dev, ino }: { readonly dev: number; readonly ino: number }): string => `${dev}:${ino}`;

/** The {@link Netns.id} of the namespace that the calling thread is in. */
export function ownNetnsId(): string {
  return idOf(statSync('/proc/thread-self/ns/net'));
}

/**
 * Opens the network namespace at `path`, to be closed by {@link closeNetns}.
 * @throws TwillError `not-found` when `path` does not exist, `unavailable` when descriptors are short, `permission`,
 *   `invalid` when it is no network namespace
 */
export function openNetns(path: string): Netns {
  let fd: number;
  try {
    fd = openSync(path, OPEN_FLAGS);
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    const missing = code === 'ENOENT' || code === 'ENOTDIR';
    const short = code === 'EMFILE' || code === 'ENFILE';
    const kind = missing ? 'not-found' : short ? 'unavailable' : 'permission';
    throw new TwillError(kind, `cannot open network namespace '${path}'`, cause);
  }
  if (libc().ioctl(fd, NS_GET_NSTYPE, null) === CLONE_NEWNET) return { fd, path, id: idOf(fstatSync(fd)) };
  closeSync(fd);
  throw new TwillError('invalid', `'${path}' is not a network namespace`);
}

export function closeNetns({ fd }: Netns): void {
  closeSync(fd);
}

/**
 * Index of a device in the calling thread's network namespace, undefined when there is none of that name; synchronous,
 * so it works inside {@link inNetns}.
 * @throws TwillError when it cannot be told
 */
export function findInterfaceIndex(name: string): number | undefined {
  const index = libc().if_nametoindex(name);
  if (index !== 0) return index;
  const errno = lastErrno();
  // It opens a socket to ask: without a descriptor for that it has learnt nothing.
  if (errno !== ENODEV) throw kernelError(`look for the device ${name}`, errno);
  return undefined;
}

function enter<T>({ fd, path }: Netns, work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const errno = setns(fd);
    if (errno !== 0) throw kernelError(`enter network namespace '${path}'`, errno);
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
    closeSync(home);
  }
}

/**
 * Runs `work` with the calling thread inside a network namespace, an open one or the one at a path, and comes back.
 * `work` must be synchronous: JavaScript of other tasks would otherwise run in the wrong namespace. Sockets opened and
 * processes spawned in it stay in that namespace; `/proc/sys/net` shows that namespace's values meanwhile.
 *
 * If the thread cannot come back the process ends at once (exit status 70): going on would program the wrong
 * namespace.
 * @throws TwillError `not-found` when a path does not exist, `permission`, `invalid` when it is no network namespace
 */
export function inNetns<T>(where: string | Netns, work: () => T extends Promise<unknown> ? never : T): T {
  if (typeof where !== 'string') return enter<T>(where, work);
  const target = openNetns(where);
  try {
    return enter<T>(target, work);
  } finally {
    closeNetns(target);
  }
}
