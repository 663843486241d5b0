/** In a second: of all that comes to a place, what is looked at; of one sender, what is answered. */
const MOST_LOOKED_AT = 400;
const MOST_ANSWERED = 40;
const SECOND_MS = 1000;

/**
 * Bounds what answering costs. A node is asked twice a second or so, whatever the size of the cluster: what comes by the
 * hundreds is no question. Few numbers, forgotten every second.
 */
export class Quota {
  private since = Number.NEGATIVE_INFINITY;
  private count = 0;
  private readonly senders = new Map<string, number>();

  /** @param nowMs by a monotonic clock */
  take(sender: string, nowMs: number): 'answer' | 'pass over' | 'flood' {
    if (nowMs - this.since >= SECOND_MS) {
      this.since = nowMs;
      this.count = 0;
      this.senders.clear();
    }
    this.count++;
    if (this.count > MOST_LOOKED_AT) return 'flood';
    const sent = (this.senders.get(sender) ?? 0) + 1;
    this.senders.set(sender, sent);
    return sent > MOST_ANSWERED ? 'pass over' : 'answer';
  }
}
