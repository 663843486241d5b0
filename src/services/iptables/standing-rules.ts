import type { Iptables } from '../../kernel/iptables.ts';
import { compareJumps, type JumpChanges, parseSaved } from './plan/document.ts';
import { isOwnChain, jumps, localnetJumps, type Table } from './plan/names.ts';
import type { Chains } from './plan/ruleset.ts';

/** What the kernel has, and what is to be done about the jumps that lead to it. */
export interface StandingRules {
  readonly chains: Record<Table, Chains>;
  readonly jumps: Readonly<Record<Table, JumpChanges>>;
}

/** @throws TwillError as {@link Iptables.save} */
export async function readStanding(iptables: Iptables, localnet: boolean): Promise<StandingRules> {
  const wanted = localnet ? [...jumps, ...localnetJumps] : jumps;
  const [filter, nat] = (await Promise.all([iptables.save('filter'), iptables.save('nat')])).map(parseSaved);
  return {
    chains: { filter: filter!.chains, nat: nat!.chains },
    jumps: { filter: compareJumps('filter', wanted, filter!), nat: compareJumps('nat', wanted, nat!) },
  };
}

/** Keeps of what stands only what matters, and in the memory of what should stand where both say the same. */
export function takeOver({
  desired,
  installed,
}: {
  readonly desired: Chains;
  readonly installed: Chains;
}): void {
  for (const [name, text] of installed) {
    // The kernel's copy of the text is part of a large string.
    const own = desired.get(name);
    if (own === text) installed.set(name, own);
    else if (own === undefined && !isOwnChain(name)) installed.delete(name);
  }
}
