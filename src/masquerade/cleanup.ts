import { everyIptables, type Iptables } from '../kernel/iptables.ts';
import { listOrAsk } from '../kernel/iptables-reading.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import { families } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
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
    removals.push({
      what: `${iptables.family.iptables}-${iptables.variant}: chain ${chain.name} removed from table ${chain.table}`,
      apply: () => iptables.restore(document),
    });
  }
  return removals;
}

/** Every rule of the agent's that is about pods' traffic, in iptables and nftables alike, in this network namespace. */
export async function findTrafficRules(): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const iptables of everyIptables()) {
    try {
      removals.push(...(await chainRemovals(iptables)));
    } catch (error) {
      // What is not installed, or not in this kernel, holds nothing to remove.
      if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
    }
  }
  for (const family of families) removals.push(...(await nftTableRemovals(family, nftTable(family))));
  return [...removals, ...(await nftTableRemovals(peersTable, peersTable.name))];
}
