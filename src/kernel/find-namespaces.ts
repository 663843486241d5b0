import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { netnsNumber } from './netlink/netns-ids.ts';
import type { RtSocket } from './netlink/socket.ts';
import { closeNetns, type Netns, openNetns } from './netns.ts';

/** Where container runtimes keep the namespaces of pods. */
const folders = ['/run/netns', '/var/run/netns', '/run/docker/netns'];

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Paths of namespaces: those with a name first, then those that processes are in. */
function* paths(): Generator<string> {
  for (const folder of folders) for (const name of names(folder)) yield join(folder, name);
  for (const pid of names('/proc')) if (/^\d+$/.test(pid)) yield `/proc/${pid}/ns/net`;
}

/** Opens each namespace once, however many paths lead to it. */
function* namespaces(): Generator<Netns> {
  const nsfs = statSync('/proc/self/ns/net');
  const seen = new Set([nsfs.ino]);
  for (const path of paths()) {
    try {
      const { dev, ino } = statSync(path);
      if (dev !== nsfs.dev || seen.has(ino)) continue;
      seen.add(ino);
      yield openNetns(path);
    } catch {
      // the process has ended, or the namespace has no name any more
    }
  }
}

/**
 * Finds the namespaces that have these numbers in the socket's namespace, as far as a path leads to them.
 * @returns open namespaces by number: the caller closes them
 */
export async function findNamespaces(
  socket: RtSocket,
  wanted: ReadonlySet<number>,
): Promise<Map<number, Netns>> {
  const found = new Map<number, Netns>();
  for (const netns of namespaces()) {
    if (found.size === wanted.size) {
      closeNetns(netns);
      break;
    }
    const number = await netnsNumber(socket, netns).catch(() => undefined);
    if (number !== undefined && wanted.has(number) && !found.has(number)) found.set(number, netns);
    else closeNetns(netns);
  }
  return found;
}
