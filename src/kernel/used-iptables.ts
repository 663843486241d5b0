import type { Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import { detectVariant, type Iptables, openIptables } from './iptables.ts';

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
    if (!isTwillError(error, 'missing-program', 'kernel', 'permission')) throw error;
    return undefined;
  }
}
