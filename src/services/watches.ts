import type { Family } from '../model/address.ts';
import { Contest, contestedChecks } from '../model/contest.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import type { SyncResult } from './family-rules.ts';
import type { ServedFamily } from './served-family.ts';
import type { RulesWatch, WatchHooks } from './watch.ts';

export interface RulesWatchesOptions extends Pick<WatchHooks, 'busy' | 'repair'> {
  readonly families: readonly Pick<ServedFamily, 'rules' | 'openWatch'>[];
  /** Names another proxy that runs on this node. */
  readonly findOther: () => string | undefined;
  readonly log: Log;
}

const contestedName = (family: Family): string => `rules of Services (${family.name})`;

/** The watches over all families' rules: who keeps changing them is named, and waited for longer and longer. */
export class RulesWatches {
  /** How often rules were put right though no Service had changed. */
  repairs = 0;
  private readonly options: RulesWatchesOptions;
  private readonly watches: readonly RulesWatch[];
  private readonly contest = new Contest();
  private readonly limiter = new LogLimiter();

  constructor(options: RulesWatchesOptions) {
    this.options = options;
    const { families, busy, repair, log } = options;
    this.watches = families.map(({ rules, openWatch }) =>
      openWatch({
        log,
        busy,
        wait: () => this.contest.wait(contestedName(rules.family), monotonicMs()),
        repair: (broken) => {
          repair(broken);
          this.reportOther();
        },
      }),
    );
  }

  start(): void {
    for (const watch of this.watches) watch.start();
  }

  stop(): void {
    for (const watch of this.watches) watch.stop();
  }

  /** Somebody changes rules: when it is another proxy, the two will undo each other's work until one is stopped. */
  private reportOther(): void {
    const { findOther, log } = this.options;
    const other = findOther();
    if (other === undefined || this.limiter.allow(other) === undefined) return;
    log.error({ other }, 'another proxy runs on this node and writes the same chains: stop one of the two');
  }

  /**
   * Tells what was written: partial syncs alone write only into chains of our own.
   * @param results one for each family, undefined for one that failed
   */
  async settled(results: readonly (SyncResult | undefined)[]): Promise<void> {
    const transactions = results.reduce((sum, result) => sum + (result?.transactions ?? 0), 0);
    const countable = results.every((result) => result?.full === false);
    await Promise.all(
      this.watches.map((watch, index) =>
        watch.settled(countable ? { transactions, entries: results[index]!.entries } : undefined),
      ),
    );
  }

  /** Rules were written though no Service had changed. */
  repaired(family: Family): void {
    this.repairs++;
    if (!this.contest.note(contestedName(family), monotonicMs()).begins) return;
    this.options.log.error(
      { family: family.name },
      'what should stand does not stand again and again: repairs wait from now on',
    );
  }

  /** The families whose rules somebody keeps changing. */
  warnings(): Check[] {
    return contestedChecks(this.contest, monotonicMs());
  }
}
