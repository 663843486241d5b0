import { forwardWall } from '../kernel/forward-wall.ts';
import type { Iptables } from '../kernel/iptables.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { usedIptables } from '../kernel/used-iptables.ts';
import type { Family } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import type { ProxyConfig } from './config.ts';
import { foreignJump } from './iptables/plan/foreign-jumps.ts';
import { chooseMode, type FamilyFacts, type ModeChoice } from './plan/mode.ts';

/** Rules of others that would have nothing left to lead to. */
async function dependent(iptables: Iptables): Promise<string | undefined> {
  try {
    // Read as a whole only where there is something to lead to.
    if ((await iptables.list('nat', 'KUBE-MARK-MASQ')) === undefined) return undefined;
    const jump = foreignJump(await iptables.save('nat'));
    return jump && `chain ${jump.from} of somebody else's leads to ${jump.to}, which only mode iptables has`;
  } catch (error) {
    // Who leads where in what cannot be printed nobody can tell.
    if (!isTwillError(error, 'conflict')) throw error;
    return describeError(error);
  }
}

async function familyFacts(family: Family): Promise<FamilyFacts> {
  const iptables = await usedIptables(family);
  const { nftablesLacks } = await import('./nftables/probe.ts');
  const lacks = await nftablesLacks(family);
  const obstacles =
    iptables === undefined || lacks.length > 0
      ? []
      : [await forwardWall(iptables), await dependent(iptables)].filter((one) => one !== undefined);
  return { family: family.name, lacks, hasIptables: iptables !== undefined, obstacles };
}

/** The mode that `--proxy-mode` comes to on this node; where it is `auto` kernel, nft and rules are looked at. */
export async function modeOnThisNode({ wantedMode, onlyIptables }: ProxyConfig): Promise<ModeChoice> {
  if (wantedMode !== 'auto') return { mode: wantedMode, reason: '--proxy-mode says so' };
  if (onlyIptables !== undefined) return chooseMode(onlyIptables, []);
  const facts: FamilyFacts[] = [];
  for (const family of kernelFamilies()) facts.push(await familyFacts(family));
  return chooseMode(undefined, facts);
}
