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
