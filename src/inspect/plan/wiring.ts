import { outsideProblems, type WiredLink } from '../../pods/plan/check.ts';
import { bareAddress, type PodRecord } from '../../pods/plan/pod.ts';

/** Which devices of the node have an address, by the address without its length. */
export type HeldAddresses = ReadonlyMap<string, readonly string[]>;

function addressTroubles({ addresses, bridge, gateway }: PodRecord, held: HeldAddresses): string[] {
  return addresses.flatMap((one) => {
    const own = held.get(bareAddress(one.address));
    const taken =
      own === undefined
        ? []
        : [`${bareAddress(one.address)} is an address of this node's ${own.join(', ')}, too`];
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
  const standing = [record.bridge, record.hostVeth].every((name) => links.has(name));
  return [...(standing ? addressTroubles(record, held) : []), ...outsideProblems(record, links)];
}

/** Pods that claim one address, by the address. */
export function sharedAddresses(records: readonly PodRecord[]): Map<string, PodRecord[]> {
  const all = new Map<string, PodRecord[]>();
  for (const record of records)
    for (const { address } of record.addresses) all.set(address, [...(all.get(address) ?? []), record]);
  return new Map([...all].filter(([, holders]) => holders.length > 1));
}

/** A pod's name for people: the Kubernetes pod's, else the beginning of the container's. */
export const podName = ({ pod, containerId }: Pick<PodRecord, 'pod' | 'containerId'>): string =>
  pod ?? containerId.slice(0, 13);
