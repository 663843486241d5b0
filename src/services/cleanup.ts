import { type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { families } from '../model/address.ts';
import { isTwillError, TwillError } from '../model/error.ts';
import { parseSaved, renderRemoval } from './iptables/plan/document.ts';
import { findOtherProxy } from './other-proxy.ts';

const variants: readonly IptablesVariant[] = ['nft', 'legacy'];

/**
 * Removes every rule of the proxy from this network namespace: both families, both iptables variants, and what a
 * kube-proxy left. Doing it twice is fine. @param print is told what was removed
 * @throws TwillError `conflict` while a proxy runs, which would write its rules again
 */
export async function cleanUpProxy(print: (line: string) => void): Promise<void> {
  const other = await findOtherProxy();
  if (other !== undefined) throw new TwillError('conflict', `${other} runs on this node: stop it first`);
  for (const family of families) {
    for (const variant of variants) {
      const iptables = openIptables(family, variant);
      for (const table of ['nat', 'filter', 'mangle']) {
        try {
          const document = renderRemoval(table, parseSaved(await iptables.save(table)));
          if (document === '') continue;
          await iptables.restore(document);
          const chains = document.match(/^:/gm)?.length ?? 0;
          print(`${family.iptables}-${variant}: ${chains} chains removed from table ${table}`);
        } catch (error) {
          // A variant that is not installed, or that this kernel has not, holds nothing to remove.
          if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
        }
      }
    }
  }
}
