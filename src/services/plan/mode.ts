import type { Family } from '../../model/address.ts';
import type { RulesTool } from '../../model/rules-tool.ts';

/** How rules are programmed. */
export type ProxyMode = RulesTool;

/** What decides in one family. */
export interface FamilyFacts {
  readonly family: Family['name'];
  /** What of the kernel or of nft is missing for mode nftables, in words; undefined where nothing is. */
  readonly lacks: string | undefined;
  /** Whether iptables can do NAT here. */
  readonly hasIptables: boolean;
  /** What on the node only mode iptables goes with, in words. */
  readonly obstacles: readonly string[];
}

/** The mode, and why it is this one. */
export interface ModeChoice {
  readonly mode: ProxyMode;
  readonly reason: string;
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
      lacks !== undefined && hasIptables ? [`nftables cannot serve ${family} here: ${lacks}`] : [],
    ),
    ...families.flatMap(({ obstacles }) => obstacles),
  ];
  const [reason] = against;
  if (reason !== undefined) return { mode: 'iptables', reason };
  return { mode: 'nftables', reason: 'nft and the kernel can do all of it, and nothing here needs iptables' };
}
