import type { Iptables } from '../kernel/iptables.ts';
import { listOrAsk } from '../kernel/iptables-reading.ts';
import { removalsInIptables } from '../kernel/iptables-removals.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { nftTableRemovals } from '../kernel/nft.ts';
import { mayStand } from '../kernel/nft-tables.ts';
import { PacketCounters } from '../kernel/packet-counters.ts';
import { ipv4 } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { hindered, type Removal } from '../model/removal.ts';
import { applyRemovals, type RemovalOutcome } from '../process/removals.ts';
import { packetCounters } from './iptables/plan/counters.ts';
import { renderRemoval } from './iptables/plan/document.ts';
import { jumps, localnetJumps } from './iptables/plan/names.ts';
import { readTable } from './iptables/standing-rules.ts';
import { closeLocalnet, localnetIsOurs } from './localnet.ts';
import { tableName } from './nftables/plan/names.ts';
import { findOtherProxy } from './other-proxy.ts';
import type { ProxyMode } from './plan/mode.ts';
import { removeLeftovers } from './predecessor.ts';

/** Before the rules go that keep others from services on loopback. */
async function localnetRemoval(iptables: Iptables): Promise<Removal[]> {
  if (iptables.family !== ipv4 || !(await localnetIsOurs(iptables))) return [];
  const apply = async (): Promise<void> => void (await closeLocalnet(iptables));
  return [{ what: 'route_localnet set back to 0', apply }];
}

async function tableRemovals(iptables: Iptables): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const table of ['nat', 'filter', 'mangle']) {
    const installed = await readTable(iptables, table, [...localnetJumps, ...jumps]);
    const document = renderRemoval(table, installed);
    if (document === '') continue;
    const chains = document.match(/^:/gm)?.length ?? 0;
    removals.push({
      what: `${iptables.family.iptables}-${iptables.variant}: ${chains} chains of the proxy removed from table ${table}`,
      apply: () => iptables.restore(document),
    });
  }
  return removals;
}

/** The kubelet's mark: where it runs, KUBE-FIREWALL is its own, too. */
const kubeletChain = { table: 'mangle', name: 'KUBE-KUBELET-CANARY' };

/** Where no kubelet is, the chain that it shares with its node's proxy is the proxy's. */
async function firewallRemoval(iptables: Iptables): Promise<Removal[]> {
  const chain = 'KUBE-FIREWALL';
  if ((await listOrAsk(iptables, kubeletChain.table, kubeletChain.name)) !== undefined) return [];
  if ((await listOrAsk(iptables, 'filter', chain)) === undefined) return [];
  const parents = await Promise.all(
    ['INPUT', 'OUTPUT'].map((name) => listOrAsk(iptables, 'filter', name, [`-A ${name} -j ${chain}`])),
  );
  const leads = parents.flatMap((lines) => lines ?? []).filter((line) => line.endsWith(` -j ${chain}`));
  const jumps = leads.map((line) => line.replace(/^-A/, '-D'));
  const document = ['*filter', `:${chain} - [0:0]`, ...jumps, `-X ${chain}`, 'COMMIT', ''].join('\n');
  const program = `${iptables.family.iptables}-${iptables.variant}`;
  const what = `${program}: chain ${chain} removed from table filter, for no kubelet has it`;
  return [{ what, apply: () => iptables.restore(document) }];
}

async function counterRemovals(): Promise<Removal[]> {
  const found: Removal[] = [];
  const open = new PacketCounters();
  try {
    for (const name of Object.values(packetCounters)) {
      if ((await open.read(name)) === undefined) continue;
      found.push({
        what: `packet counter ${name} removed`,
        apply: async () => {
          const counters = new PacketCounters();
          await counters.remove(name).finally(() => counters.close());
        },
      });
    }
  } catch (error) {
    // A kernel without counters has none.
    if (isTwillError(error, 'permission')) found.push(hindered('packet counters removed', error));
    else if (!isTwillError(error, 'kernel')) throw error;
  } finally {
    open.close();
  }
  return found;
}

/** The tables of mode nftables. */
export async function findProxyTables(): Promise<Removal[]> {
  const found: Removal[] = [];
  for (const family of kernelFamilies())
    if (await mayStand(family, tableName)) found.push(...(await nftTableRemovals(family, tableName)));
  return found;
}

/** Both families, both variants. */
async function iptablesRemovals(withFirewall: boolean): Promise<Removal[]> {
  const removals = await removalsInIptables('chains of the proxy', async (iptables) => [
    ...(await localnetRemoval(iptables)),
    ...(await tableRemovals(iptables)),
    ...(withFirewall ? await firewallRemoval(iptables) : []),
  ]);
  // Rules hold the counters.
  return [...removals, ...(await counterRemovals())];
}

/**
 * Every rule of the proxy in this network namespace: both families, both iptables variants, chains of a kube-proxy's
 * iptables mode included, which are the same.
 * @param withFirewall KUBE-FIREWALL, too, where no kubelet has it
 */
export async function findProxyRules(withFirewall = false): Promise<Removal[]> {
  return [...(await iptablesRemovals(withFirewall)), ...(await findProxyTables())];
}

/** Removes the rules of the mode that the proxy does not run in. */
export async function removeOtherMode(mode: ProxyMode): Promise<RemovalOutcome> {
  return await applyRemovals(mode === 'iptables' ? await findProxyTables() : await iptablesRemovals(false));
}

/**
 * Removes every rule of the proxy from this network namespace, and what a kube-proxy left. Doing it twice is fine.
 * @param print is told what was removed
 * @throws TwillError `conflict` while a proxy runs, which would write its rules again
 */
export async function cleanUpProxy(print: (line: string) => void): Promise<void> {
  const other = await findOtherProxy();
  if (other !== undefined) throw new TwillError('conflict', `${other} runs on this node: stop it first`);
  const own = await applyRemovals(await findProxyRules());
  for (const what of own.removed) print(what);
  const foreign = await removeLeftovers();
  for (const name of foreign.removed) print(`${name} removed`);
  const left = [...own.left, ...foreign.left];
  if (left.length > 0) throw new TwillError('kernel', `not removed: ${left.join('; ')}`);
}
