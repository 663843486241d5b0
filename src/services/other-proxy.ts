import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { get } from 'node:http';

/** The right to write rules of a network namespace: bit 12 of capabilities(7). */
const CAP_NET_ADMIN = 1n << 12n;

/** Whether the text of /proc/PID/status is that of a living process which holds CAP_NET_ADMIN in its user namespace. */
function mayAdministerNetwork(status: string): boolean {
  const [, state = ''] = /^State:\s+(\S)/m.exec(status) ?? [];
  const [, effective = '0'] = /^CapEff:\s+([0-9a-f]+)$/m.exec(status) ?? [];
  return !'ZX'.includes(state) && (BigInt(`0x${effective}`) & CAP_NET_ADMIN) !== 0n;
}

/** What of a process decides whether it could write our rules; '' where it has ended, or is not ours to look at. */
function look<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/**
 * Whether the process could write rules of our network namespace: it is in it, and has the right. Anybody may call a
 * process what they like; a right that is held in a user namespace of one's own is none here.
 */
function couldWriteRules(pid: string): boolean {
  const same = (kind: 'net' | 'user'): boolean =>
    readlinkSync(`/proc/${pid}/ns/${kind}`) === readlinkSync(`/proc/self/ns/${kind}`);
  return look(
    () => same('net') && same('user') && mayAdministerNetwork(readFileSync(`/proc/${pid}/status`, 'utf8')),
    false,
  );
}

function processes(): string[] {
  return look(() => readdirSync('/proc'), []).filter((name) => /^\d+$/.test(name));
}

/**
 * A program that runs in this network namespace and could write rules there. Seen only where its process is: in a pod that
 * takes `hostPID`.
 * @returns for example `kube-proxy (process 1234)`; undefined when there is none
 */
export function findProgram(name: string): string | undefined {
  for (const pid of processes()) {
    const found = look(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim(), '');
    if (found === name && couldWriteRules(pid)) return `${name} (process ${pid})`;
  }
  return undefined;
}

/** Which writes the same chains. */
export const findKubeProxy = (): string | undefined => findProgram('kube-proxy');

/** Where kube-proxy and Twill serve metrics unless told otherwise. */
const METRICS_PORT = 10_249;
const ANSWER_MS = 500;
const LISTEN = '0A';
const modes = new Set(['iptables', 'ipvs', 'nftables', 'userspace']);

interface ListeningSocket {
  readonly user: number;
  readonly inode: string;
}

/** Those that listen on the port, from the texts of /proc/net/tcp and tcp6. */
function listenersOn(port: number, text: string): ListeningSocket[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = '', , state]) => local.endsWith(suffix) && state === LISTEN)
    .map(([, , , , , , , user = '', , inode = '']) => ({ user: Number(user), inode }));
}

/** The processes that hold the socket, of those that can be seen from here. */
function holders(inode: string): string[] {
  const link = `socket:[${inode}]`;
  return processes().filter((pid) =>
    look(
      () =>
        readdirSync(`/proc/${pid}/fd`).some(
          (fd) => look(() => readlinkSync(`/proc/${pid}/fd/${fd}`), '') === link,
        ),
      false,
    ),
  );
}

/**
 * Whether what listens there could be a proxy: root's, and held by a process with the right to write rules where that can
 * be seen. In a PID namespace of its own it cannot be: the kernel says of a foreign socket whose it is, and in which control
 * group, but not with which rights. Rules are no evidence either: those of a kube-proxy that has gone stand, and one that
 * has just started has none yet. Two proxies that write the same chains are worse than one that waits and says for whom.
 */
function isCredible({ user, inode }: ListeningSocket): boolean {
  if (user !== 0) return false;
  const pids = holders(inode);
  return pids.length === 0 || pids.some(couldWriteRules);
}

/** What answers to `/proxyMode` on this network namespace's loopback; undefined when nothing does. */
function answeringProxy(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const url = `http://127.0.0.1:${METRICS_PORT}/proxyMode`;
    const request = get(url, { timeout: ANSWER_MS, agent: false }, (response) => {
      let mode = '';
      response.on('data', (data) => {
        mode = (mode + String(data)).slice(0, 100);
      });
      response.on('error', () => resolve(undefined));
      response.on('close', () =>
        resolve(modes.has(mode.trim()) ? `a proxy in ${mode.trim()} mode (it answers at ${url})` : undefined),
      );
    });
    // Of the whole answer: one that comes byte by byte would be waited for without end.
    const late = setTimeout(() => request.destroy(new Error('no answer in time')), 2 * ANSWER_MS);
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
    request.on('close', () => {
      clearTimeout(late);
      resolve(undefined);
    });
  });
}

/** A proxy that serves `/proxyMode` and could write rules; undefined when there is none. */
async function servingProxy(): Promise<string | undefined> {
  const listeners = ['tcp', 'tcp6'].flatMap((name) =>
    listenersOn(
      METRICS_PORT,
      look(() => readFileSync(`/proc/net/${name}`, 'latin1'), ''),
    ),
  );
  return listeners.some(isCredible) ? answeringProxy() : undefined;
}

/**
 * Another proxy of this network namespace, seen by its process or, where that is in a PID namespace of its own, by what
 * it serves. To be asked before this process serves the same.
 */
export async function findOtherProxy(): Promise<string | undefined> {
  return findKubeProxy() ?? (await servingProxy());
}
