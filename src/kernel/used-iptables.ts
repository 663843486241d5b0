import type { Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { detectVariant, type Iptables, type IptablesVariant, openIptables } from './iptables.ts';

/** The tables of iptables-legacy that there are in the namespace that this thread is in: asked for others, it makes them. */
export function legacyTables({ nft }: Pick<Family, 'nft'>): string[] {
  const names = readFileIfPresent(`/proc/thread-self/net/${nft}_tables_names`);
  return (names ?? '').split('\n').filter((name) => name !== '');
}

/** Whether there can be rules of the variant in the table. */
export function mayHaveTable(family: Family, variant: IptablesVariant, table: string): boolean {
  return variant === 'nft' || legacyTables(family).includes(table);
}

/** The iptables that this node uses; undefined where it can do no NAT. */
export async function usedIptables(family: Family): Promise<Iptables | undefined> {
  try {
    const { variant } = await detectVariant(family);
    const iptables = openIptables(family, variant);
    await iptables.list('nat', 'POSTROUTING').catch((error: unknown) => {
      // It can, though not be printed.
      if (!isTwillError(error, 'conflict')) throw error;
    });
    return iptables;
  } catch (error) {
    if (!isTwillError(error, 'missing-program', 'not-found', 'kernel', 'permission')) throw error;
    return undefined;
  }
}
