import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { lastErrno, libc } from '../libc.ts';

const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;

/** Bytes that may wait to be read: some ten thousand notifications. Taken only as they come. */
const RECEIVE_BUFFER = 8 * 1024 * 1024;
/** Bytes of one send, which a transaction is: what a node's `net.core.wmem_default` leaves may be too few. */
const SEND_BUFFER = 2 * 1024 * 1024;

function socketLinks(): Map<number, string> {
  const links = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      const link = readlinkSync(`/proc/self/fd/${name}`);
      if (link.startsWith('socket:')) links.set(Number(name), link);
    } catch {
      // the listing's own descriptor is closed again
    }
  }
  return links;
}

function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  if (libc().setsockopt(fd, level, name, bytes, 4) !== 0)
    throw kernelError('set an option of a netlink socket', lastErrno());
}

/**
 * Opens a socket by `open`, which the netlink library does without telling its descriptor, and makes it survive being
 * overrun: the library ends the process when the kernel reports ENOBUFS, since libuv then polls an error that the library
 * cannot word. So the buffer is large, and an overrun raises no error but counts as a drop.
 * @param filter classic BPF over its messages: what that refuses is never queued
 * @returns the socket, its descriptor where that was found, and its inode number for {@link readDrops}
 * @throws TwillError `unavailable` when descriptors are short; nothing is left open
 */
export function openGuarded<T extends { close(): void }>(
  open: () => T,
  filter?: Buffer,
): { socket: T; fd: number | undefined; inode: string } {
  let socket: T | undefined;
  try {
    const before = socketLinks();
    socket = open();
    return { socket, ...guard(before, filter) };
  } catch (cause) {
    socket?.close();
    if (cause instanceof TwillError) throw cause;
    throw new TwillError('unavailable', 'cannot open a netlink socket', cause);
  }
}

function guard(
  before: ReadonlyMap<number, string>,
  filter: Buffer | undefined,
): { fd: number | undefined; inode: string } {
  for (const [fd, link] of socketLinks()) {
    if (before.get(fd) === link) continue;
    try {
      setOption(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
    } catch {
      continue; // a socket of another kind, opened meanwhile by the resolver's thread
    }
    try {
      setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
      setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER);
    } catch {
      // Without CAP_NET_ADMIN the buffers keep their size; such a process only reads a little.
    }
    if (filter !== undefined && libc().attachFilter(fd, filter) !== 0)
      throw kernelError('filter the messages of a netlink socket', lastErrno());
    return { fd, inode: /\d+/.exec(link)?.[0] ?? '' };
  }
  return { fd: undefined, inode: '' };
}

/** Messages that the kernel could not queue so far; undefined where that cannot be read, or not from this namespace. */
export function readDrops(inode: string): number | undefined {
  let text: string;
  try {
    text = readFileSync('/proc/net/netlink', 'latin1');
  } catch {
    return undefined;
  }
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    if (fields[9] === inode) return Number(fields[8]);
  }
  return undefined;
}
