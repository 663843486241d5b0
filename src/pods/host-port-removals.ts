import type { Iptables } from '../kernel/iptables.ts';
import { removalsInIptables } from '../kernel/iptables-removals.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import type { Removal } from '../model/removal.ts';
import { natOfHostPorts } from './kernel/nat-table.ts';
import { hostPortRemoval } from './plan/hostports.ts';
import { hostPortTable } from './plan/nft-hostports.ts';

async function hostPortRemovals(iptables: Iptables): Promise<Removal[]> {
  const document = hostPortRemoval(await natOfHostPorts(iptables));
  if (document === undefined) return [];
  const what = `${iptables.family.iptables}-${iptables.variant}: chains of host ports removed from table nat`;
  return [{ what, apply: () => iptables.restore(document) }];
}

/** The chains of host ports in iptables, in both variants. */
export function findHostPortChains(): Promise<Removal[]> {
  return removalsInIptables('chains of host ports', hostPortRemovals);
}

/** The tables of host ports in nftables. */
export async function findHostPortTables(): Promise<Removal[]> {
  const found = await Promise.all(kernelFamilies().map((family) => nftTableRemovals(family, hostPortTable)));
  return found.flat();
}
