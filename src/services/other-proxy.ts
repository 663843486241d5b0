import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { get } from 'node:http';

/** Programs that write the same chains. */
const names = new Set(['kube-proxy']);

function sameNamespace(pid: string, own: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) === own;
  } catch {
    return false; // it has ended, or is not ours to look at
  }
}

/**
 * A kube-proxy that runs in this network namespace. Seen only where its process is: in a pod that takes `hostPID`.
 * @returns for example `kube-proxy (process 1234)`; undefined when there is none
 */
export function findKubeProxy(): string | undefined {
  const own = readlinkSync('/proc/self/ns/net');
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (names.has(name) && sameNamespace(pid, own)) return `${name} (process ${pid})`;
    } catch {
      // it has ended
    }
  }
  return undefined;
}

/** Where kube-proxy and Twill serve metrics unless told otherwise. */
const METRICS_PORT = 10_249;
const ANSWER_MS = 500;
const modes = new Set(['iptables', 'ipvs', 'nftables', 'userspace']);

/** What answers to `/proxyMode` on this network namespace's loopback; undefined when nothing does. */
function answeringProxy(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const url = `http://127.0.0.1:${METRICS_PORT}/proxyMode`;
    const request = get(url, { timeout: ANSWER_MS, agent: false }, (response) => {
      let mode = '';
      response.on('data', (data) => {
        mode = (mode + String(data)).slice(0, 100);
      });
      response.on('close', () =>
        resolve(modes.has(mode.trim()) ? `a proxy in ${mode.trim()} mode (it answers at ${url})` : undefined),
      );
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

/**
 * Another proxy of this network namespace, seen by its process or, where that is in a PID namespace of its own, by what
 * it serves. To be asked before this process serves the same.
 */
export async function findOtherProxy(): Promise<string | undefined> {
  return findKubeProxy() ?? (await answeringProxy());
}
