import { closeNetns } from '../kernel/netns.ts';
import { describeError } from '../model/error.ts';
import { checkInside } from '../pods/kernel/check.ts';
import { namespaceExists, openPodNamespace } from '../pods/kernel/namespace.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { NodeView } from './overlay.ts';
import { outsideTroubles, podName, sharedAddresses } from './plan/wiring.ts';

async function insideTroubles(record: PodRecord): Promise<string[]> {
  if (!namespaceExists(record.netns, record.netnsId))
    return ['its network namespace is gone, and no DEL has come'];
  const netns = openPodNamespace(record.netns);
  try {
    const expected = { addresses: record.addresses.map(({ address }) => address), routes: record.routes };
    await checkInside(record, netns, expected);
    return [];
  } finally {
    closeNetns(netns);
  }
}

/**
 * What is not as it should be with each pod: its device and bridge on the node, and what is inside its namespace.
 * @returns those that have something
 */
export async function podTroubles(
  { links: all, addresses, names }: NodeView,
  records: readonly PodRecord[],
): Promise<Map<PodRecord, readonly string[]>> {
  const links = new Map(all.map((link) => [link.name, link]));
  const held = new Map<string, string[]>();
  for (const { index, address } of addresses)
    held.set(address.text, [...(held.get(address.text) ?? []), names.get(index) ?? String(index)]);
  const shared = sharedAddresses(records);
  const found = new Map<PodRecord, readonly string[]>();
  for (const record of records) {
    const troubles = outsideTroubles(record, links, held);
    for (const { address } of record.addresses)
      for (const other of shared.get(address) ?? [])
        if (other !== record) troubles.push(`${podName(other)} has the address ${address}, too`);
    // One after the other: each look opens a socket in the pod's namespace.
    troubles.push(...(await insideTroubles(record).catch((error: unknown) => [describeError(error)])));
    if (troubles.length > 0) found.set(record, troubles);
  }
  return found;
}
