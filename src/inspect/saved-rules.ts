import type { Iptables, IptablesVariant } from '../kernel/iptables.ts';
import { run } from '../kernel/process.ts';
import type { Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';

/**
 * What iptables-save prints of all tables, with counters; undefined where it does not work. For one table alone
 * iptables-nft reads the rules of all: with ten thousand Services that is a second for each.
 */
export async function saveAll(family: Family, variant: IptablesVariant): Promise<string | undefined> {
  try {
    const { status, stdout } = await run(`${family.iptables}-${variant}-save`, ['-c']);
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (isTwillError(error, 'missing-program')) return undefined;
    throw error;
  }
}

/** One table of what iptables-save has printed, without counters; undefined where that has none, or could not be printed. */
function tableOf(saved: string, table: string): string | undefined {
  const start = saved.startsWith(`*${table}\n`) ? 0 : saved.indexOf(`\n*${table}\n`) + 1;
  if (start === 0 && !saved.startsWith(`*${table}\n`)) return undefined;
  const end = saved.indexOf('\nCOMMIT\n', start);
  return end < 0 ? undefined : saved.slice(start, end + 1).replace(/^\[\d+:\d+\] /gm, '');
}

/** The same program; tables that were printed already are not asked for once more. */
export function withSaved(iptables: Iptables, saved: () => Promise<string | undefined>): Iptables {
  return {
    family: iptables.family,
    variant: iptables.variant,
    save: async (table) => tableOf((await saved()) ?? '', table) ?? (await iptables.save(table)),
    list: (table, chain) => iptables.list(table, chain),
    has: (table, rule) => iptables.has(table, rule),
    understands: (match) => iptables.understands(match),
    chains: (table) => iptables.chains(table),
    restore: (document) => iptables.restore(document),
  };
}
