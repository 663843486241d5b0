import { type Family, ipv4 } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { detectVariant, type Iptables, type IptablesVariant, openIptables } from './iptables.ts';

/**
 * Whether there can be rules of the variant in the table. Asking iptables-legacy for a table makes one, so the kernel is
 * asked which there are.
 */
export function mayHaveTable(family: Family, variant: IptablesVariant, table: string): boolean {
  if (variant === 'nft') return true;
  const names = readFileIfPresent(`/proc/net/${family === ipv4 ? 'ip' : 'ip6'}_tables_names`);
  return names?.split('\n').includes(table) === true;
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
