import { type Log, LogLimiter } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { type LeaseConflict, leaseConflicts } from './plan/conflicts.ts';
import type { LeaseSource } from './plan/source.ts';

/** A node that has no overlay after this many milliseconds may have none because of a conflict. */
const LATEST_MS = 3000;

/** Conflicts that are told one by one. */
const MOST_TOLD = 20;

/** Looks for leases that cannot both be right, and says so. */
export class ConflictWatch {
  private readonly source: LeaseSource;
  private readonly log: Log;
  private readonly limiter = new LogLimiter();
  private readonly loop: ReconcileLoop;
  private timer: NodeJS.Timeout | undefined;
  private started = false;
  private known: readonly LeaseConflict[] = [];

  constructor(source: LeaseSource, log: Log) {
    this.source = source;
    this.log = log;
    this.loop = new ReconcileLoop({
      name: 'conflicts',
      log,
      work: async () => this.find(),
      minIntervalMs: 1000,
    });
  }

  get found(): readonly LeaseConflict[] {
    return this.known;
  }

  /** The leases are there: thousands of them are compared when the overlay stands, or when it takes too long to. */
  listed(): void {
    this.timer = setTimeout(() => this.start(), LATEST_MS);
    this.timer.unref();
  }

  start(): void {
    clearTimeout(this.timer);
    this.started = true;
    this.loop.trigger('start');
  }

  leasesChanged(): void {
    if (this.started) this.loop.trigger('leases changed');
  }

  stop(): Promise<void> {
    clearTimeout(this.timer);
    return this.loop.stop();
  }

  private find(): void {
    // One that leaves for another is followed for a moment beside it.
    const staying = [...this.source.leases().values()].filter(({ leaving }) => !leaving);
    this.known = leaseConflicts(staying);
    // One lease can be in conflict with all others: the metric says how many there are.
    for (const { kind, leases, detail } of this.known.slice(0, MOST_TOLD)) {
      if (this.limiter.allow(detail) !== undefined)
        this.log.error({ kind, leases, detail }, 'leases conflict');
    }
  }
}
