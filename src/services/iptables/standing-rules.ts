import type { Iptables } from '../../kernel/iptables.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import { asWritten } from './plan/counters.ts';
import { compareJumps, type InstalledTable, type JumpChanges, parseSaved } from './plan/document.ts';
import { isOwnChain, type Jump, jumps, localnetJumps, retiredJumps, type Table } from './plan/names.ts';
import type { Chains } from './plan/ruleset.ts';

/** What the kernel has, and what is to be done about the jumps that lead to it. */
export interface StandingRules {
  readonly chains: Record<Table, Chains>;
  readonly jumps: Readonly<Record<Table, JumpChanges>>;
  /** What cannot be printed, and what to do about it. */
  readonly unreadable: readonly string[];
}

/** Stands for rules that cannot be printed: unlike any that are wanted. */
const unknown = '?';

/** A Service's own chains, and parts of shared ones: too many to be looked at one by one. */
const many = /^KUBE-((SVC|SVL|EXT|FW|SEP)-|.*-[ap][0-9a-f]{2,3}$)/;

/** True when the few chains that all packets pass are as they are known to be. */
async function stillStand(iptables: Iptables, table: string, known: Chains): Promise<boolean> {
  for (const [name, text] of known) {
    if (many.test(name)) continue;
    const lines = await iptables.list(table, name);
    if (asWritten(lines?.filter((line) => line.startsWith('-A ')).join('\n') ?? '') !== text) return false;
  }
  return true;
}

/**
 * What stands in one table. One that iptables-nft cannot print is not empty: which chains there are is asked of nft, each
 * jump is asked for on its own, and what the chains hold is what is known of them, or to be written anew.
 * @param known what stood when we last wrote
 * @throws TwillError as {@link Iptables.save}
 */
export async function readTable(
  iptables: Iptables,
  table: string,
  wanted: readonly Jump[],
  known?: Chains,
): Promise<InstalledTable & { readonly unreadable?: string }> {
  try {
    return parseSaved(await iptables.save(table));
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
    const names = (await iptables.chains(table)) ?? [];
    const whole =
      known !== undefined &&
      [...known.keys()].every((name) => names.includes(name)) &&
      (await stillStand(iptables, table, known).catch(() => false));
    const chains: Chains = new Map(names.filter(isOwnChain).map((name) => [name, unknown]));
    for (const [name, text] of whole ? known : []) chains.set(name, text);
    const others = new Map<string, string[]>();
    for (const jump of wanted.filter((one) => one.table === table)) {
      if (!(await iptables.has(table, `-A ${jump.chain} ${jump.rule}`))) continue;
      others.set(jump.chain, [...(others.get(jump.chain) ?? []), jump.rule]);
    }
    // Their order cannot be seen; each is put to the front when it is missing.
    const early = (rule: string): boolean => wanted.some((jump) => jump.rule === rule && jump.early === true);
    for (const rules of others.values()) rules.sort((a, b) => Number(early(b)) - Number(early(a)));
    return { chains, others, unreadable: describeError(error) };
  }
}

/** @param known what stood when we last wrote, if it is known @throws TwillError as {@link Iptables.save} */
export async function readStanding(
  iptables: Iptables,
  localnet: boolean,
  known?: Readonly<Record<Table, Chains>>,
): Promise<StandingRules> {
  const wanted = localnet ? [...localnetJumps, ...jumps] : jumps;
  const retired = localnet ? [] : retiredJumps;
  const asked = [...wanted, ...retired];
  const [filter, nat] = await Promise.all([
    readTable(iptables, 'filter', asked, known?.filter),
    readTable(iptables, 'nat', asked, known?.nat),
  ]);
  return {
    chains: { filter: filter.chains, nat: nat.chains },
    jumps: {
      filter: compareJumps('filter', wanted, filter, retired),
      nat: compareJumps('nat', wanted, nat, retired),
    },
    unreadable: [filter, nat].flatMap(({ unreadable }) => unreadable ?? []),
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
