import { everyIptables, type Iptables } from '../kernel/iptables.ts';
import { listNftTable, removeNftTable } from '../kernel/nft.ts';
import { families } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { chainDocument, jumpRule } from './plan/iptables.ts';
import { peersTable } from './plan/peers.ts';
import { nftTable, type TrafficChain, trafficChains } from './plan/rules.ts';

/** What takes a chain and the jumps to it away; undefined where there is none. */
async function chainRemoval(iptables: Iptables, chain: TrafficChain): Promise<string | undefined> {
  const { table, name, parent } = chain;
  const own = await iptables.list(table, name).catch((error: unknown) => {
    // One that cannot be printed is there all the same.
    if (isTwillError(error, 'conflict')) return [];
    throw error;
  });
  if (own === undefined) return undefined;
  const jumps = await iptables.list(table, parent).catch(async (error: unknown) => {
    if (!isTwillError(error, 'conflict')) throw error;
    return (await iptables.has(table, jumpRule(chain))) ? [jumpRule(chain)] : [];
  });
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

async function tableRemoval(family: { readonly nft: string }, name: string): Promise<Removal[]> {
  if ((await listNftTable(family, name)) === undefined) return [];
  return [
    {
      what: `nftables: table ${family.nft} ${name} removed`,
      apply: async () => void (await removeNftTable(family, name)),
    },
  ];
}

/** Every rule of the agent's that is about pods' traffic, in iptables and nftables alike, in this network namespace. */
export async function findTrafficRules(): Promise<Removal[]> {
  const removals: Removal[] = [];
  const look = async (find: () => Promise<Removal[]>): Promise<void> => {
    try {
      removals.push(...(await find()));
    } catch (error) {
      // What is not installed, or not in this kernel, holds nothing to remove.
      if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
    }
  };
  for (const iptables of everyIptables()) await look(() => chainRemovals(iptables));
  for (const family of families) await look(() => tableRemoval(family, nftTable(family)));
  await look(() => tableRemoval(peersTable, peersTable.name));
  return removals;
}
