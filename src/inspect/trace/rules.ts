import { inNetns, type Netns } from '../../kernel/netns.ts';
import { type RunResult, run } from '../../kernel/process.ts';
import type { Family } from '../../model/address.ts';
import { isTwillError } from '../../model/error.ts';
import { iptablesChains, type RuleSet, ruleSet } from './plan/hooks.ts';
import { parseSavedTables, unreadableTables } from './plan/iptables-rules.ts';

/** Runs a program in a namespace; one that is not installed, or refuses, has nothing to say. */
export async function runIn(
  netns: Netns | undefined,
  program: string,
  args: readonly string[],
): Promise<RunResult | undefined> {
  try {
    if (netns === undefined) return await run(program, args);
    // The program is started before this returns, and stays where it was started.
    const { running } = inNetns(netns, () => ({ running: run(program, args) }));
    return await running;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

/** Everything that stands in a namespace for a family. */
export async function readRules(netns: Netns | undefined, family: Family): Promise<RuleSet> {
  const variants = ['nft', 'legacy'] as const;
  const saved = await Promise.all(
    variants.map((variant) => runIn(netns, `${family.iptables}-${variant}-save`, ['-c'])),
  );
  const unread: string[] = [];
  const tables = saved.flatMap((result, index) => {
    const program = `iptables-${variants[index]!}` as const;
    if (result === undefined || result.status !== 0) return [];
    for (const table of unreadableTables(result.stdout))
      unread.push(
        `${program} cannot print table ${table} (${family.name}): somebody wrote rules into it with nft`,
      );
    return parseSavedTables(result.stdout, program);
  });
  return ruleSet(iptablesChains(tables), unread);
}
