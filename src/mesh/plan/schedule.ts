/**
 * Whom to ask next. In every interval at most `PARTNERS` nodes are asked, so that the packets of a cluster grow with its
 * nodes and not with the square of their number. All are asked, in an order of chance, before one is asked again:
 * each of n other nodes once in max(1, n / PARTNERS) intervals. Those that are in doubt, or known to be ill, come in
 * between, in every second place at most: where there are such, twice that.
 */

/** Nodes that are asked in an interval at most. */
export const PARTNERS = 20;

/** More in doubt are not remembered: the pass comes to them. */
const MOST_IN_DOUBT = 100;

export type Random = () => number;

/** Milliseconds in which each node is asked once. @param nodes how many there are */
export const passMs = (nodes: number, intervalMs: number): number =>
  intervalMs * Math.max(1, nodes / PARTNERS);

function shuffled(names: string[], random: Random): string[] {
  for (let at = names.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [names[at], names[other]] = [names[other]!, names[at]!];
  }
  return names;
}

export class Schedule {
  private readonly random: Random;
  private readonly intervalMs: number;
  /** Those whom this pass has not come to. */
  private pass: string[] = [];
  /** How many nodes the pass has in all; none is under way before the first. */
  private nodes: number | undefined;
  private readonly doubtful = new Set<string>();
  /** Those known to be ill, in the order of their time. */
  private readonly ill = new Map<string, number>();
  private extra = false;

  constructor(intervalMs: number, random: Random) {
    this.intervalMs = intervalMs;
    this.random = random;
  }

  /** How many nodes are asked in a pass. */
  get size(): number {
    return this.nodes ?? 0;
  }

  /**
   * Whom to ask now; it may be gone since the pass began.
   * @param names of all nodes, asked for when a pass begins
   * @param nowMs by a monotonic clock
   */
  next(names: () => string[], nowMs: number): string | undefined {
    if (!this.extra) {
      const name = this.doubted() ?? this.dueIll(nowMs);
      if (name !== undefined) {
        this.extra = true;
        return name;
      }
    }
    this.extra = false;
    if (this.pass.length === 0) {
      this.pass = shuffled(names(), this.random);
      this.nodes = this.pass.length;
    }
    return this.pass.pop();
  }

  private doubted(): string | undefined {
    const [name] = this.doubtful;
    if (name !== undefined) this.doubtful.delete(name);
    return name;
  }

  private dueIll(nowMs: number): string | undefined {
    const [first] = this.ill;
    if (first === undefined || first[1] > nowMs) return undefined;
    this.ill.delete(first[0]);
    return first[0];
  }

  /** What asking a node has shown. All nodes ask one that is ill: it must not be asked the more often the more they are. */
  asked(name: string, state: 'well' | 'doubtful' | 'ill', nowMs: number): void {
    this.forget(name);
    if (state === 'doubtful' && this.doubtful.size < MOST_IN_DOUBT) this.doubtful.add(name);
    if (state === 'ill')
      this.ill.set(name, nowMs + Math.max(this.intervalMs, passMs(this.size, this.intervalMs) / 4));
  }

  /** It is gone. */
  forget(name: string): void {
    this.doubtful.delete(name);
    this.ill.delete(name);
  }

  /** Milliseconds until the next is to be asked: by chance, so that agents started at once drift apart. */
  delayMs(): number {
    const step = this.intervalMs / PARTNERS;
    const usual = Math.max(step, this.intervalMs / Math.max(1, this.size));
    const soon = this.doubtful.size > 0 || this.nodes === undefined;
    return (soon ? step : usual) * (0.75 + this.random() / 2);
  }
}
