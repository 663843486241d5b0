import { type Iptables, type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { PacketCounters } from '../kernel/packet-counters.ts';
import { ipv4 } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { packetCounters } from './iptables/plan/counters.ts';
import { renderRemoval } from './iptables/plan/document.ts';
import { jumps, localnetJumps } from './iptables/plan/names.ts';
import { readTable } from './iptables/standing-rules.ts';
import { closeLocalnet } from './localnet.ts';
import { findOtherProxy } from './other-proxy.ts';
import { removeLeftovers } from './predecessor.ts';

const variants: readonly IptablesVariant[] = ['nft', 'legacy'];

/** Before the rules go that keep others from services on loopback. */
async function setLocalnetBack(iptables: Iptables, print: (line: string) => void): Promise<void> {
  if (iptables.family !== ipv4) return;
  try {
    if (await closeLocalnet(iptables)) print('route_localnet set back to 0');
  } catch (error) {
    if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
  }
}

async function removeCounters(print: (line: string) => void): Promise<void> {
  const counters = new PacketCounters();
  try {
    for (const name of Object.values(packetCounters))
      if (await counters.remove(name)) print(`packet counter ${name} removed`);
  } catch (error) {
    // A kernel without counters.
    if (!isTwillError(error, 'kernel')) throw error;
  } finally {
    counters.close();
  }
}

/**
 * Removes every rule of the proxy from this network namespace: both families, both iptables variants, and what a
 * kube-proxy left. Doing it twice is fine. @param print is told what was removed
 * @throws TwillError `conflict` while a proxy runs, which would write its rules again
 */
export async function cleanUpProxy(print: (line: string) => void): Promise<void> {
  const other = await findOtherProxy();
  if (other !== undefined) throw new TwillError('conflict', `${other} runs on this node: stop it first`);
  for (const family of kernelFamilies()) {
    for (const variant of variants) {
      const iptables = openIptables(family, variant);
      await setLocalnetBack(iptables, print);
      for (const table of ['nat', 'filter', 'mangle']) {
        try {
          const installed = await readTable(iptables, table, [...localnetJumps, ...jumps]);
          const document = renderRemoval(table, installed);
          if (document === '') continue;
          await iptables.restore(document);
          const chains = document.match(/^:/gm)?.length ?? 0;
          print(`${iptables.family.iptables}-${variant}: ${chains} chains removed from table ${table}`);
        } catch (error) {
          // A variant that is not installed, or that this kernel has not, holds nothing to remove.
          if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
        }
      }
    }
  }
  await removeCounters(print);
  const { removed, left } = await removeLeftovers();
  for (const name of removed) print(`${name} removed`);
  if (left.length > 0) throw new TwillError('kernel', `not removed: ${left.join('; ')}`);
}
