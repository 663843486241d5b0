import type { IptablesVariant } from '../kernel/iptables.ts';
import { openRulesStamp, type RulesStamp } from '../kernel/rules-stamp.ts';
import type { Family } from '../model/address.ts';
import { monotonicMs } from '../process/clock.ts';

/** The rules that are ours are looked at this often though nobody seems to have written any: x_tables' stamp is rough. */
const LONGEST_MS = 60_000;

/** Where our chains are. */
const tables = ['nat', 'filter', 'mangle'];

/** The rules of one family in one variant. */
export interface RulesKind {
  readonly family: Family;
  readonly variant: IptablesVariant;
}

/** Tells without listing rules, and so without the xtables lock, whether anybody has written some since the last look. */
export class RulesWatch {
  private readonly stamps = new Map<string, RulesStamp>();
  private seen: string | undefined;
  private at = 0;

  /** The state of the rules now. */
  async read(kinds: readonly RulesKind[]): Promise<string> {
    const readings: string[] = [];
    for (const kind of kinds)
      readings.push(`${kind.family.name} ${kind.variant} ${await this.stamp(kind).read()}`);
    return readings.join(', ');
  }

  /**
   * Runs the work, which writes rules in one transaction.
   * @returns true when nobody else wrote any meanwhile
   */
  async alone(kind: RulesKind, work: () => Promise<void>): Promise<boolean> {
    const stamp = this.stamp(kind);
    const before = await stamp.read();
    await work();
    return stamp.explains(before, await stamp.read(), { transactions: 1, entries: 0 });
  }

  private stamp({ family, variant }: RulesKind): RulesStamp {
    const key = `${family.name} ${variant}`;
    const stamp = this.stamps.get(key) ?? openRulesStamp(family, variant, tables);
    this.stamps.set(key, stamp);
    return stamp;
  }

  /** True when the rules were found right in this state, not long ago. */
  isKnown(state: string): boolean {
    return this.seen === state && monotonicMs() - this.at < LONGEST_MS;
  }

  /** Says that the rules are right in this state; undefined when they were written just now. */
  learn(state: string | undefined): void {
    this.seen = state;
    this.at = monotonicMs();
  }

  close(): void {
    for (const stamp of this.stamps.values()) stamp.close();
    this.stamps.clear();
  }
}
