import { type Iptables, type IptablesVariant, openIptables } from '../kernel/iptables.ts';
import { applyNft, listNftTable } from '../kernel/nft.ts';
import { mayHaveTable } from '../kernel/used-iptables.ts';
import { describeError, isTwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { TrafficChains } from './chains.ts';
import { nftDocument } from './plan/nftables.ts';
import { nftTable, noRules, type TrafficRules } from './plan/rules.ts';

/**
 * Rules of a kind that is not used. An earlier run, or a flanneld that was here before, may have made them: rules of both
 * kinds would masquerade twice, or by what a lease of before says (flannel#1317).
 */
export class OtherRules {
  /** What may stand still, with the reasons, by program. */
  readonly left = new Map<string, string>();
  private readonly log: Log;
  private readonly chains: TrafficChains;

  /** @param onRemoved called when something was taken away */
  constructor(log: Log, onRemoved: () => void) {
    this.log = log;
    const never = (): boolean => false;
    this.chains = new TrafficChains({ log, mustWait: never, repaired: onRemoved, stands: () => {} });
  }

  /**
   * @param used what the family's rules are made with; undefined where it has none
   * @returns false where some may stand that can go later
   * @throws TwillError
   */
  async clear(rules: TrafficRules, used: IptablesVariant | 'nftables' | undefined): Promise<boolean> {
    if (used !== 'nftables') await this.clearTable(rules);
    let all = true;
    for (const variant of ['nft', 'legacy'] as const) {
      if (variant === used) continue;
      if (!(await this.clearVariant(rules, openIptables(rules.family, variant)))) all = false;
    }
    return all;
  }

  private async clearVariant(rules: TrafficRules, tool: Iptables): Promise<boolean> {
    const { family, variant } = tool;
    const program = `${family.iptables}-${variant}`;
    try {
      await this.chains.ensure(noRules(rules), tool, (table) => mayHaveTable(family, variant, table));
      this.left.delete(program);
      return true;
    } catch (error) {
      // Neither program nor kernel need have the kind that is not used. Without CAP_NET_RAW nobody sees iptables-legacy.
      if (isTwillError(error, 'missing-program', 'not-found')) return true;
      if (!isTwillError(error, 'permission', 'kernel')) throw error;
      const left = `${program}: chains for the traffic of pods removed, if there are any: ${describeError(error)}`;
      if (this.left.get(program) !== left) this.log.warn({ left }, 'rules cannot be removed');
      this.left.set(program, left);
      // Rights do not come while this process runs.
      return isTwillError(error, 'permission');
    }
  }

  private async clearTable(rules: TrafficRules): Promise<void> {
    try {
      if ((await listNftTable(rules.family, nftTable(rules.family))) !== undefined)
        await applyNft(nftDocument(noRules(rules)));
    } catch (error) {
      if (!isTwillError(error, 'missing-program')) throw error;
    }
  }
}
