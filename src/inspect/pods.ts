import type { PodRecord } from '../pods/plan/pod.ts';
import { parseTime, wallClockMs } from '../process/clock.ts';
import { askAgent } from './client.ts';
import { formatTable } from './table.ts';

export interface PodsFlags {
  readonly cniSocket: string;
  readonly output: string;
}

function age(since: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - parseTime(since)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

function row(record: PodRecord, now: number): string[] {
  const { pod, containerId, ifname, addresses, hostVeth, portMappings, createdAt } = record;
  const ports = portMappings.map(
    ({ hostPort, containerPort, protocol }) => `${hostPort}->${containerPort}/${protocol}`,
  );
  return [
    pod ?? '-',
    containerId.slice(0, 13),
    ifname,
    addresses.map(({ address }) => address).join(','),
    hostVeth,
    ports.join(',') || '-',
    age(createdAt, now),
  ];
}

/** The pods as a table, oldest first. */
export function podTable(records: readonly PodRecord[], now: number): string {
  const sorted = [...records].sort((a, b) => a.order - b.order);
  const header = ['POD', 'CONTAINER', 'INTERFACE', 'ADDRESSES', 'HOST VETH', 'HOST PORTS', 'AGE'];
  return formatTable(
    header,
    sorted.map((record) => row(record, now)),
  );
}

/** `twill pods` */
export async function showPods({ cniSocket, output }: PodsFlags): Promise<void> {
  const records = await askAgent<PodRecord[]>(cniSocket, { inspect: 'pods' });
  const text =
    output === 'json' ? `${JSON.stringify(records, undefined, 2)}\n` : podTable(records, wallClockMs());
  process.stdout.write(text);
}
