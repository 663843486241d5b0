import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

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
