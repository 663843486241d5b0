import type { Iptables } from '../../kernel/iptables.ts';
import { isTwillError, type TwillError } from '../../model/error.ts';
import { KeyedLock } from '../keyed-lock.ts';
import { hasConditions, trialOf } from '../plan/hostports.ts';

/** Asks iptables how it prints rules with conditions, which a netconf brings: only then can they be compared. */
export class PrintedRules {
  private readonly iptables: Iptables;
  private readonly known = new Map<string, string>();
  private readonly lock = new KeyedLock();

  constructor(iptables: Iptables) {
    this.iptables = iptables;
  }

  /**
   * Rules as they are printed; those without conditions are already.
   * @throws TwillError `invalid` with iptables' message when it refuses one of them
   */
  async of(rules: readonly string[]): Promise<string[]> {
    const unknown = rules.filter((rule) => hasConditions(rule) && !this.known.has(rule));
    if (unknown.length > 0) await this.alone(() => this.try(unknown));
    return rules.map((rule) => this.known.get(rule) ?? rule);
  }

  /** Runs work while no trial is under way: all use one chain, which is ours as the others are. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.lock.run('trial', work);
  }

  /**
   * As {@link of}, without those that iptables refuses by now (a set that is gone, say).
   * @param refused is told of each
   */
  async ofAccepted(
    rules: readonly string[],
    refused: (rule: string, error: TwillError) => void,
  ): Promise<string[]> {
    try {
      return await this.of(rules);
    } catch (error) {
      if (!isTwillError(error, 'invalid')) throw error;
    }
    const accepted: string[] = [];
    for (const rule of rules) {
      try {
        accepted.push(...(await this.of([rule])));
      } catch (error) {
        if (!isTwillError(error, 'invalid')) throw error;
        refused(rule, error);
      }
    }
    return accepted;
  }

  /** Forgets what no rule needs any more. */
  keepOnly(rules: readonly string[]): void {
    const needed = new Set(rules);
    for (const rule of this.known.keys()) if (!needed.has(rule)) this.known.delete(rule);
  }

  private async try(rules: readonly string[]): Promise<void> {
    const trial = trialOf(rules);
    await this.iptables.restore(trial.write);
    try {
      const printed = trial.printed((await this.iptables.list('nat', trial.chain)) ?? []);
      for (const [at, rule] of rules.entries()) this.known.set(rule, printed[at]!);
    } finally {
      await this.iptables.restore(trial.remove);
    }
  }
}
