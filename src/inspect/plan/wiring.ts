import type { PodRecord } from '../../pods/plan/pod.ts';

/** A device of the node as far as a pod's wiring needs it. */
export interface WiredLink {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  readonly master: number;
  readonly hairpin: boolean | undefined;
}

/** Which devices of the node have an address, by the address without its length. */
export type HeldAddresses = ReadonlyMap<string, readonly string[]>;

const bare = (address: string): string => address.split('/')[0]!;

function addressTroubles({ addresses, bridge, gateway }: PodRecord, held: HeldAddresses): string[] {
  return addresses.flatMap((one) => {
    const own = held.get(bare(one.address));
    const taken =
      own === undefined ? [] : [`${bare(one.address)} is an address of this node's ${own.join(', ')}, too`];
    const away = gateway !== false && held.get(one.gateway)?.includes(bridge) !== true;
    return away ? [...taken, `its gateway ${one.gateway} is no address of the bridge ${bridge}`] : taken;
  });
}

/** What is not as it should be on the node's side of a pod, each in words. */
export function outsideTroubles(
  record: PodRecord,
  links: ReadonlyMap<string, WiredLink>,
  held: HeldAddresses,
): string[] {
  const bridge = links.get(record.bridge);
  if (bridge === undefined) return [`the bridge ${record.bridge} is gone`];
  const port = links.get(record.hostVeth);
  if (port === undefined) return [`its device ${record.hostVeth} is gone`];
  const troubles = addressTroubles(record, held);
  if (!bridge.up) troubles.push(`the bridge ${record.bridge} is down`);
  if (!port.up) troubles.push(`its device ${record.hostVeth} is down`);
  if (port.master !== bridge.index)
    troubles.push(`its device ${record.hostVeth} is no port of the bridge ${record.bridge}`);
  else if (record.hairpin && port.hairpin === false)
    troubles.push(`hairpin is off at ${record.hostVeth}: the pod does not reach itself through a Service`);
  return troubles;
}

/** Pods that claim one address, by the address. */
export function sharedAddresses(records: readonly PodRecord[]): Map<string, PodRecord[]> {
  const all = new Map<string, PodRecord[]>();
  for (const record of records)
    for (const { address } of record.addresses) all.set(address, [...(all.get(address) ?? []), record]);
  return new Map([...all].filter(([, holders]) => holders.length > 1));
}

/** A pod's name for people: the Kubernetes pod's, else the beginning of the container's. */
export const podName = ({ pod, containerId }: PodRecord): string => pod ?? containerId.slice(0, 13);
