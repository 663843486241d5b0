import type { Iptables } from '../kernel/iptables.ts';
import { listOrAsk } from '../kernel/iptables-reading.ts';
import { removalsInIptables } from '../kernel/iptables-removals.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import { families } from '../model/address.ts';
import type { Removal } from '../model/removal.ts';
import { chainDocument, jumpRule } from './plan/iptables.ts';
import { peersTable } from './plan/peers.ts';
import { nftTable, type TrafficChain, trafficChains } from './plan/rules.ts';

/** What takes a chain and the jumps to it away; undefined where there is none. */
async function chainRemoval(iptables: Iptables, chain: TrafficChain): Promise<string | undefined> {
  const { table, name, parent } = chain;
  const own = await listOrAsk(iptables, table, name);
  if (own === undefined) return undefined;
  const jumps = await listOrAsk(iptables, table, parent, [jumpRule(chain)]);
  return chainDocument(chain, undefined, false, { own, parent: jumps ?? [] });
}

async function chainRemovals(iptables: Iptables): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const chain of trafficChains) {
    const document = await chainRemoval(iptables, chain);
    if (document === undefined) continue;
    const program = `${iptables.family.iptables}-${iptables.variant}`;
    removals.push({
      what: `${program}: chain ${chain.name} removed from table ${chain.table}`,
      ...(chain.name.startsWith('FLANNEL-') ? { flannels: `${program}: chain ${chain.name}` } : {}),
      apply: () => iptables.restore(document),
    });
  }
  return removals;
}

/** Every rule of the agent's that is about pods' traffic, in iptables and nftables alike, in this network namespace. */
export async function findTrafficRules(): Promise<Removal[]> {
  const removals = await removalsInIptables('chains for the traffic of pods', chainRemovals);
  for (const family of families) {
    const tables = await nftTableRemovals(family, nftTable(family));
    const flannels = `nftables table ${family.nft} ${nftTable(family)}`;
    removals.push(...tables.map((one) => ({ ...one, flannels })));
  }
  return [...removals, ...(await nftTableRemovals(peersTable, peersTable.name))];
}
