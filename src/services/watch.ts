import type { RulesStamp, Written } from '../kernel/rules-stamp.ts';
import { describeError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';

const POLL_MS = 100;
/** Others change rules of their own all the time: ours are read in full at most this often because of that. */
const FULL_CHECK_MS = 60_000;

/** What a watch asks and tells. */
export interface WatchHooks {
  /** True while the proxy itself writes. */
  readonly busy: () => boolean;
  /** Milliseconds before the next repair: more and more, when the same one is made again and again. */
  readonly wait: () => number;
  /** Read everything and repair. @param broken the cheap look found something missing */
  readonly repair: (broken: boolean) => void;
  readonly log: Log;
}

/** Notices when somebody else changes rules. */
export interface RulesWatch {
  start(): void;
  stop(): void;
  /** The proxy has written. @param written undefined when what it wrote cannot be told by counting */
  settled(written: Written | undefined): Promise<void>;
}

export interface ProxyWatchOptions extends WatchHooks {
  readonly stamp: RulesStamp;
  /** A cheap look: do our rules seem to stand? */
  readonly looksWhole: () => Promise<boolean>;
}

/**
 * Notices within a tenth of a second when somebody else changes rules (`iptables -F`, `nft flush ruleset`, a firewall that
 * reloads): a change counter is read, and only when it moved are rules looked at. A change of somebody else that falls
 * into a sync moves it together with our own: after a sync they are looked at unless the counter moved by just what was
 * written.
 */
export class ProxyWatch implements RulesWatch {
  private readonly options: ProxyWatchOptions;
  private timer: NodeJS.Timeout | undefined;
  private known: string | undefined;
  private lookWanted = false;
  private looking = false;
  private lastFullCheck = Number.NEGATIVE_INFINITY;
  private fullCheckWanted = false;

  constructor(options: ProxyWatchOptions) {
    this.options = options;
  }

  start(): void {
    this.timer = setInterval(() => void this.look(), POLL_MS);
  }

  stop(): void {
    clearInterval(this.timer);
    this.options.stamp.close();
  }

  /** The proxy has written. @param written undefined when what it wrote cannot be told by counting */
  async settled(written: Written | undefined): Promise<void> {
    const { stamp } = this.options;
    const before = this.known;
    this.known = await stamp.read().catch(() => undefined);
    const explained =
      before !== undefined &&
      this.known !== undefined &&
      written !== undefined &&
      stamp.explains(before, this.known, written);
    this.lookWanted ||= !explained;
  }

  private async look(): Promise<void> {
    const { stamp, busy, looksWhole, repair, log } = this.options;
    if (this.looking || busy() || this.known === undefined) return;
    this.looking = true;
    try {
      const before = this.known;
      const now = await stamp.read();
      const changed = now !== before;
      if ((changed || this.lookWanted) && !busy() && this.known === before) {
        this.known = now;
        this.lookWanted = false;
        if (await looksWhole()) this.fullCheckWanted ||= changed;
        else if (this.options.wait() > 0) this.lookWanted = true;
        else if (!busy()) {
          log.warn('rules were removed by somebody else');
          repair(true);
        }
      }
      if (this.fullCheckWanted && monotonicMs() - this.lastFullCheck > FULL_CHECK_MS) {
        this.fullCheckWanted = false;
        this.lastFullCheck = monotonicMs();
        repair(false);
      }
    } catch (error) {
      log.debug({ error: describeError(error) }, 'cannot look at the rules');
    } finally {
      this.looking = false;
    }
  }
}
