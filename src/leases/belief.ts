import { monotonicMs } from '../process/clock.ts';
import { guarded } from '../process/guarded.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { formatLeaseValue, type Lease } from './plan/lease.ts';
import { type Said, TENURE_MS, Tenure } from './plan/tenure.ts';

export interface BeliefOptions {
  readonly log: Log;
  /** False of a lease that is of no use under the network configuration: what comes in its place is followed at once. */
  readonly works: (lease: Lease) => boolean;
  /** What these leases say is followed from now on. */
  readonly onSettled: (names: ReadonlySet<string>) => void;
}

/** What this node believes of the leases: what a source says, a moment later where that takes another's place. */
export class Belief {
  private readonly options: BeliefOptions;
  private readonly tenure: Tenure;
  private readonly limiter = new LogLimiter();
  private readonly settle: () => void;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: BeliefOptions) {
    this.options = options;
    this.tenure = new Tenure(options.works);
    this.settle = guarded(options.log, 'following changed leases', () => {
      this.timer = undefined;
      const names = this.tenure.expire(monotonicMs());
      this.schedule();
      if (names.size > 0) options.onSettled(names);
    });
  }

  /** Takes in what is said of a lease now. @returns the lease as it is now */
  said(name: string, before: Lease | undefined, said: Said): Lease | undefined {
    const lease = this.tenure.said(name, before, said, monotonicMs());
    if (this.timer === undefined) this.schedule();
    if (before !== undefined && lease !== undefined && lease !== before) this.tell(name, before, lease);
    return lease;
  }

  private tell(name: string, before: Lease, now: Lease): void {
    if (this.limiter.allow(name) !== undefined)
      this.options.log.info(
        { lease: name, before: formatLeaseValue(before), now: formatLeaseValue(now) },
        `a lease says something else: it is followed when that has stood for ${TENURE_MS / 1000} seconds`,
      );
  }

  /** What is said of the lease is so by our own doing. */
  settleNow(name: string): void {
    this.tenure.settle(name);
  }

  followed(said: ReadonlyMap<string, Lease>): ReadonlyMap<string, Lease> {
    return this.tenure.followed(said);
  }

  leaving(): Lease[] {
    return this.tenure.leaving();
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private schedule(): void {
    const { next } = this.tenure;
    if (next === undefined) return;
    this.timer = setTimeout(this.settle, Math.max(0, next - monotonicMs()));
    this.timer.unref();
  }
}
