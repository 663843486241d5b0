import { againBegins, againEnds, eventText } from '../../inspect/page/plan/view.ts';
import { type Companion, startCompanion } from '../../process/companion.ts';
import { guarded } from '../../process/guarded.ts';
import type { Log } from '../../process/log.ts';

/** A page that is loaded again, or a phone that changes its network, is back within this. */
const LINGER_MS = 10_000;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
/** Characters of an event, or of all there is: twice what the longest lists come to. What says more without an end is broken. */
const LONGEST = 8_000_000;

export interface WatchOptions {
  /** What is started to look. */
  readonly args: readonly string[];
  readonly log: Log;
  /** Events as they come, each whole. */
  readonly tell: (text: string) => void;
  /** All there is, for pages that have come since it was said last. */
  readonly again: (text: string) => void;
}

/**
 * Whoever looks for the pages: a process beside the agent's, as long as there is a page. It is told that a page came, and
 * what it writes is passed on; the agent keeps nothing of it.
 */
export class Watch {
  private readonly options: WatchOptions;
  private companion: Companion | undefined;
  private timer: NodeJS.Timeout | undefined;
  private retryMs = FIRST_RETRY_MS;
  private wanted = false;
  private pending = '';
  /** What has come so far of all there is, while that is being said once more. */
  private repeated: string | undefined;

  constructor(options: WatchOptions) {
    this.options = options;
  }

  /** A page came. @returns whether all there is will be said for it: one that is there from the start hears it anyway */
  want(): boolean {
    const waited = this.wanted && this.companion === undefined;
    this.wanted = true;
    if (this.companion !== undefined) {
      clearTimeout(this.timer);
      this.companion.tell('repeat\n');
      return true;
    }
    if (!waited) this.start();
    return false;
  }

  /** The last page is gone. */
  leave(): void {
    this.wanted = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(
      guarded(this.options.log, 'ending who looks for the page', () => this.stop()),
      LINGER_MS,
    );
    this.timer.unref();
  }

  stop(): void {
    this.wanted = false;
    clearTimeout(this.timer);
    this.companion?.kill();
    this.companion = undefined;
    this.forget();
  }

  private start(): void {
    clearTimeout(this.timer);
    const { args } = this.options;
    this.forget();
    this.companion = startCompanion({
      args,
      heard: (text) => this.heard(text),
      ended: (why) => this.ended(why),
    });
  }

  private heard(text: string): void {
    this.retryMs = FIRST_RETRY_MS;
    this.pending += text;
    const end = this.pending.lastIndexOf('\n\n') + 2;
    if (end > 1) {
      const whole = this.pending.slice(0, end);
      this.pending = this.pending.slice(end);
      for (const event of whole.split(/(?<=\n\n)/)) this.pass(event);
    }
    if (this.pending.length + (this.repeated?.length ?? 0) <= LONGEST) return;
    this.companion?.kill();
    this.ended('it says more than it may');
  }

  private pass(event: string): void {
    if (event === againBegins) this.repeated = '';
    else if (event === againEnds) {
      this.options.again(this.repeated ?? '');
      this.repeated = undefined;
    } else if (this.repeated !== undefined) this.repeated += event;
    else this.options.tell(event);
  }

  private forget(): void {
    this.pending = '';
    this.repeated = undefined;
  }

  private ended(why: string): void {
    this.companion = undefined;
    this.forget();
    if (!this.wanted) return;
    this.options.log.warn({ error: why, retryInMs: this.retryMs }, 'who looks for the page has ended');
    this.options.tell(eventText('stalled', { why }));
    this.timer = setTimeout(
      guarded(this.options.log, 'starting who looks for the page', () => this.start()),
      this.retryMs,
    );
    this.retryMs = Math.min(LONGEST_RETRY_MS, this.retryMs * 2);
  }
}
