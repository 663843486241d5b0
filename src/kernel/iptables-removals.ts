import { isTwillError } from '../model/error.ts';
import { hindered, type Removal } from '../model/removal.ts';
import { everyIptables, type Iptables } from './iptables.ts';
import { mayHaveTable } from './used-iptables.ts';

/** Those that rules of ours are in. */
const tables = ['nat', 'filter', 'mangle'];

/**
 * What `find` finds, in every family and variant that the kernel could have rules of. What is not installed, or not in this
 * kernel, holds nothing; one that cannot be looked at may, and is named: without CAP_NET_RAW nobody sees iptables-legacy.
 * @param what would be removed: `chains of the proxy`
 * @throws TwillError `timeout`, `unavailable`: trying again may help
 */
export async function removalsInIptables(
  what: string,
  find: (iptables: Iptables) => Promise<Removal[]>,
): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const iptables of everyIptables()) {
    const { family, variant } = iptables;
    if (!tables.some((table) => mayHaveTable(family, variant, table))) continue;
    try {
      removals.push(...(await find(iptables)));
    } catch (error) {
      if (isTwillError(error, 'missing-program', 'not-found')) continue;
      if (!isTwillError(error, 'permission', 'kernel', 'conflict')) throw error;
      removals.push(hindered(`${family.iptables}-${variant}: ${what} removed, if there are any`, error));
    }
  }
  return removals;
}
