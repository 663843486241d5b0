import type { NftTable } from '../../kernel/nft-table.ts';
import { describeError } from '../../model/error.ts';
import { guarded } from '../../process/guarded.ts';
import type { RulesWatch, WatchHooks } from '../watch.ts';
import { affinityMap } from './plan/names.ts';

/** Between the notice of a change and the look at it: others change several things in a row. */
const LOOK_MS = 50;

/**
 * Notices when somebody else changes our table, by what the kernel tells of every change. Elements are written by the
 * proxy's own socket only, so a change of those is somebody else's; some chains go through the `nft` program, so these and
 * all rules are looked at.
 */
export class NftWatch implements RulesWatch {
  private readonly table: NftTable;
  private readonly hooks: WatchHooks;
  private readonly looksWhole: () => Promise<boolean>;
  private end: (() => void) | undefined;
  private timer: NodeJS.Timeout | undefined;
  private broken = false;
  private lost = false;

  constructor(table: NftTable, looksWhole: () => Promise<boolean>, hooks: WatchHooks) {
    this.table = table;
    this.looksWhole = looksWhole;
    this.hooks = hooks;
  }

  start(): void {
    this.end = this.table.listen(
      (set) => {
        // Of what packets have left nobody misses anything.
        this.broken ||= set !== undefined && set !== affinityMap;
        this.wake();
      },
      () => {
        this.lost = true;
        this.wake();
      },
    );
  }

  stop(): void {
    this.end?.();
    this.end = undefined;
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** Nothing has to be told: the kernel says whose a change was. */
  async settled(): Promise<void> {}

  private wake(): void {
    // A look that was under way when the watch was stopped is the last.
    if (this.end === undefined) return;
    const { log } = this.hooks;
    this.timer ??= setTimeout(
      guarded(log, 'looking at the rules', () => this.look()),
      LOOK_MS,
    );
  }

  private async look(): Promise<void> {
    const { busy, wait, repair, log } = this.hooks;
    this.timer = undefined;
    if (busy() || wait() > 0) {
      this.wake();
      return;
    }
    const { broken, lost } = this;
    this.broken = false;
    this.lost = false;
    try {
      const isWhole = !broken && (await this.looksWhole());
      if (this.end === undefined) return;
      if (!isWhole) {
        log.warn('rules were changed by somebody else');
        repair(true);
      } else if (lost) repair(false);
    } catch (error) {
      log.debug({ error: describeError(error) }, 'cannot look at the rules');
      this.broken ||= broken;
      this.lost ||= lost;
      this.wake();
    }
  }
}
