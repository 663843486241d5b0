import { describeError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import type { RulesStamp } from './rules-stamp.ts';

const POLL_MS = 500;

/** Calls `look` within half a second after rules were changed, by whomever; while none are, that costs microseconds. */
export class RulesChanges {
  private readonly stamp: RulesStamp;
  private readonly look: () => Promise<boolean>;
  private readonly log: Log;
  private readonly timer: NodeJS.Timeout;
  private known: string | undefined;
  private looking = false;

  /** @param look resolves to false when it could not look now: it is called again then */
  constructor(stamp: RulesStamp, look: () => Promise<boolean>, log: Log) {
    this.stamp = stamp;
    this.look = look;
    this.log = log;
    this.timer = setInterval(() => void this.poll(), POLL_MS);
  }

  close(): void {
    clearInterval(this.timer);
    this.stamp.close();
  }

  private async poll(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      // Read first: what changes during the look is looked at next time.
      const now = await this.stamp.read();
      if (now !== this.known && (await this.look())) this.known = now;
    } catch (error) {
      this.log.debug({ error: describeError(error) }, 'cannot see whether rules have changed');
    } finally {
      this.looking = false;
    }
  }
}
