import { describeError, isTwillError } from '../model/error.ts';
import { LONGEST_TIMER_MS, monotonicMs, wallClockMs } from './clock.ts';
import { type Log, LogLimiter } from './log.ts';

export interface LoopOptions {
  readonly name: string;
  readonly log: Log;
  /** Makes the kernel (or whatever is managed) equal to the desired state. `reasons` says who asked, for the log. */
  readonly work: (reasons: readonly string[], signal: AbortSignal) => Promise<void>;
  /** Milliseconds between runs that nobody asked for; undefined for none. */
  readonly resyncMs?: number;
  /** Least milliseconds between the starts of two runs; triggers in between are collected. Default 0. */
  readonly minIntervalMs?: number;
  /** First and longest wait after a failure, in milliseconds; doubled each time. Defaults 200 and 30,000. */
  readonly backoffMs?: { readonly first: number; readonly longest: number };
}

/** What a loop did lately, for `status`, readiness and metrics. */
export interface LoopStatus {
  readonly name: string;
  readonly runs: number;
  readonly failures: number;
  readonly consecutiveFailures: number;
  /** A time stamp for people: milliseconds since the epoch. */
  readonly lastSuccess: number | undefined;
  /** Milliseconds since then; undefined before the first success. */
  readonly sinceSuccessMs: number | undefined;
  readonly lastError: string | undefined;
  readonly pending: boolean;
  /** Milliseconds until the next run by itself: after a failure the next attempt. Undefined where none is set. */
  readonly nextRunMs: number | undefined;
  /**
   * For how many milliseconds it has come to no end: the run under way, and those before it that ended by a time-out
   * only. 0 where nothing hangs.
   */
  readonly stuckMs: number;
}

/**
 * A level-triggered loop: triggers only say "look again" and are coalesced; never two runs at once; a failed run is
 * repeated with exponential backoff; a trigger during a run causes one more run.
 */
export class ReconcileLoop {
  private readonly options: LoopOptions;
  private readonly abort = new AbortController();
  private readonly reasons = new Set<string>();
  /** Says a failure that repeats itself once a minute. */
  private readonly limiter = new LogLimiter();
  private timer: NodeJS.Timeout | undefined;
  private timerAt = Number.POSITIVE_INFINITY;
  private running: Promise<void> | undefined;
  private lastStart = Number.NEGATIVE_INFINITY;
  private noEndSince: number | undefined;
  private runs = 0;
  private failures = 0;
  private consecutiveFailures = 0;
  private lastSuccess: { readonly wall: number; readonly at: number } | undefined;
  private lastError: string | undefined;
  private waiters: (() => void)[] = [];

  constructor(options: LoopOptions) {
    this.options = options;
  }

  /** Asks for a run soon. After a failure the backoff still holds, unless `urgent`. */
  trigger(reason: string, urgent = false): void {
    if (this.abort.signal.aborted) return;
    this.reasons.add(reason);
    if (this.running !== undefined) return;
    if (this.consecutiveFailures > 0 && !urgent) return; // the retry timer is already set
    this.schedule(Math.max(0, this.lastStart + (this.options.minIntervalMs ?? 0) - monotonicMs()));
  }

  /** Resolves after the next successful run that starts after this call. */
  settled(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  status(): LoopStatus {
    return {
      name: this.options.name,
      runs: this.runs,
      failures: this.failures,
      consecutiveFailures: this.consecutiveFailures,
      lastSuccess: this.lastSuccess?.wall,
      sinceSuccessMs: this.lastSuccess === undefined ? undefined : monotonicMs() - this.lastSuccess.at,
      lastError: this.lastError,
      pending: this.reasons.size > 0 || this.running !== undefined,
      nextRunMs: Number.isFinite(this.timerAt) ? Math.max(0, this.timerAt - monotonicMs()) : undefined,
      stuckMs: this.noEndSince === undefined ? 0 : monotonicMs() - this.noEndSince,
    };
  }

  /** Cancels what waits and resolves when the run under way has ended. */
  async stop(): Promise<void> {
    this.abort.abort();
    clearTimeout(this.timer);
    await this.running;
  }

  private schedule(wantedMs: number): void {
    const delayMs = Math.min(wantedMs, LONGEST_TIMER_MS);
    const at = monotonicMs() + delayMs;
    if (at >= this.timerAt) return;
    clearTimeout(this.timer);
    this.timerAt = at;
    this.timer = setTimeout(() => {
      this.timerAt = Number.POSITIVE_INFINITY;
      this.running = this.runOnce();
    }, delayMs);
  }

  private async runOnce(): Promise<void> {
    const reasons = [...this.reasons];
    this.reasons.clear();
    const waiters = this.waiters;
    this.waiters = [];
    this.lastStart = monotonicMs();
    this.noEndSince ??= this.lastStart;
    this.runs++;
    try {
      await this.options.work(reasons.length > 0 ? reasons : ['resync'], this.abort.signal);
      this.consecutiveFailures = 0;
      this.lastSuccess = { wall: wallClockMs(), at: monotonicMs() };
      this.lastError = undefined;
      this.noEndSince = undefined;
      for (const waiter of waiters) waiter();
    } catch (error) {
      this.waiters.push(...waiters);
      for (const reason of reasons) this.reasons.add(reason);
      this.failures++;
      this.consecutiveFailures++;
      this.lastError = describeError(error);
      if (!isTwillError(error, 'timeout')) this.noEndSince = undefined;
    }
    this.running = undefined;
    if (!this.abort.signal.aborted) this.scheduleNext();
  }

  private scheduleNext(): void {
    const {
      name,
      log,
      resyncMs,
      minIntervalMs = 0,
      backoffMs = { first: 200, longest: 30_000 },
    } = this.options;
    if (this.consecutiveFailures > 0) {
      const delay = Math.min(backoffMs.longest, backoffMs.first * 2 ** (this.consecutiveFailures - 1));
      const attempt = this.consecutiveFailures;
      if (this.limiter.allow(this.lastError ?? '') !== undefined)
        log.warn({ loop: name, error: this.lastError, attempt, retryInMs: delay }, 'failed, will retry');
      this.schedule(delay);
    } else if (this.reasons.size > 0) {
      this.schedule(Math.max(0, this.lastStart + minIntervalMs - monotonicMs()));
    } else if (resyncMs !== undefined) {
      this.schedule(resyncMs);
    }
  }
}
