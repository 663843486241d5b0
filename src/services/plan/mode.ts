import type { Family } from '../../model/address.ts';
import type { Check } from '../../model/health.ts';
import type { RulesTool } from '../../model/rules-tool.ts';

/** How rules are programmed. */
export type ProxyMode = RulesTool;

/** What decides in one family. */
export interface FamilyFacts {
  readonly family: Family['name'];
  /** What of the kernel or of nft is missing for mode nftables, each in words. */
  readonly lacks: readonly string[];
  /** Whether iptables can do NAT here. */
  readonly hasIptables: boolean;
  /** What on the node only mode iptables goes with, in words. */
  readonly obstacles: readonly string[];
}

/** The mode, and why it is this one. */
export interface ModeChoice {
  readonly mode: ProxyMode;
  readonly reason: string;
  /** What mode nftables lacks on this node, by family, each in words; nothing where nobody has looked. */
  readonly lacks?: readonly Lack[];
}

export interface Lack {
  readonly family: Family['name'];
  readonly what: string;
}

/** What somebody should look at: what is missing, one line each. */
export function lackChecks({ lacks = [] }: ModeChoice): Check[] {
  return lacks.map(({ family, what }) => ({ name: `nftables (${family})`, state: 'warning', detail: what }));
}

/** The first, which is enough for a reason. */
function some([first, ...others]: readonly string[]): string {
  return others.length === 0 ? first! : `${first} (and ${others.length} more)`;
}

/**
 * `--proxy-mode=auto`: nftables where it can do all that iptables can on this node, and nothing stands against it.
 * @param wish what of the configuration only mode iptables has, in words
 */
export function chooseMode(wish: string | undefined, families: readonly FamilyFacts[]): ModeChoice {
  const against = [
    ...(wish === undefined ? [] : [wish]),
    // A family that neither of the two can serve is no reason.
    ...families.flatMap(({ family, lacks, hasIptables }) =>
      lacks.length > 0 && hasIptables ? [`nftables cannot serve ${family} here: ${some(lacks)}`] : [],
    ),
    ...families.flatMap(({ obstacles }) => obstacles),
  ];
  const lacks = families.flatMap(({ family, lacks: all }) => all.map((what): Lack => ({ family, what })));
  const found = lacks.length === 0 ? {} : { lacks };
  const [reason] = against;
  if (reason !== undefined) return { mode: 'iptables', reason, ...found };
  const fit = 'nft and the kernel can do all of it, and nothing here needs iptables';
  return { mode: 'nftables', reason: fit, ...found };
}
