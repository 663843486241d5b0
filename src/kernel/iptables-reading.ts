import { isTwillError } from '../model/error.ts';
import type { Iptables } from './iptables.ts';

/**
 * The lines of a chain as {@link Iptables.list} has them. One that iptables-nft cannot print is there, and is asked for
 * single rules.
 * @param rules as printed, with `-A CHAIN` in front; of a chain that cannot be printed those that stand are returned
 */
export async function listOrAsk(
  iptables: Iptables,
  table: string,
  chain: string,
  rules: readonly string[] = [],
): Promise<string[] | undefined> {
  try {
    return await iptables.list(table, chain);
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
  }
  const asked = rules.filter((rule) => rule.startsWith(`-A ${chain} `));
  const found = await Promise.all(asked.map((rule) => iptables.has(table, rule)));
  return asked.filter((_, index) => found[index]);
}

/**
 * The table as {@link Iptables.save} has it. Of one in which iptables-nft cannot print some rules, the wanted chains: a
 * rule that somebody wrote with nft must not hide what others are about.
 * @param wanted says which; those that cannot be printed themselves are left out
 * @throws TwillError `conflict` where there is no way to tell which chains there are
 */
export async function saveReadable(
  iptables: Iptables,
  table: string,
  wanted: (name: string) => boolean,
): Promise<string> {
  let reason: unknown;
  try {
    return await iptables.save(table);
  } catch (error) {
    if (!isTwillError(error, 'conflict')) throw error;
    reason = error;
  }
  const names = await iptables.chains(table);
  if (names === undefined) throw reason;
  const parts: string[] = [];
  for (const name of names.filter(wanted)) {
    const lines = await iptables.list(table, name).catch((error: unknown) => {
      if (!isTwillError(error, 'conflict')) throw error;
    });
    if (lines === undefined) continue;
    // The first one says that the chain is there.
    parts.push(`:${name} - [0:0]`, ...lines.filter((line) => line.startsWith('-A ')));
  }
  return parts.join('\n');
}
