import { describeError } from '../../model/error.ts';
import { bootSeconds, LONGEST_TIMER_MS, monotonicMs } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import type { LeaseRecord } from './records.ts';
import type { EtcdLeases } from './store.ts';

/** A lease is renewed at least this often, so that its loss is noticed even where the watch is not. */
const LONGEST_SECONDS = 600;
const RETRY_SECONDS = 10;

export interface RenewalOptions {
  readonly store: EtcdLeases;
  readonly log: Log;
  /** The lease is renewed at the latest this long before it expires. */
  readonly marginSeconds: number;
  /** Called when {@link EtcdRenewal.renew} is due. */
  readonly onDue: () => void;
}

/** Keeps the time at which our etcd lease has to be renewed. */
export class EtcdRenewal {
  private readonly options: RenewalOptions;
  private timer: NodeJS.Timeout | undefined;
  /** By the monotonic clock: the node's own may be set. */
  private at = Number.POSITIVE_INFINITY;
  /** When our etcd lease ends unless it is renewed, in seconds since the machine was started: etcd's clock does not sleep. */
  private endsAt = 0;

  constructor(options: RenewalOptions) {
    this.options = options;
  }

  get due(): boolean {
    return monotonicMs() >= this.at;
  }

  /** Seconds until the lease ends; undefined before the first renewal, and for a reservation. */
  get secondsLeft(): number | undefined {
    const { endsAt } = this;
    return endsAt === 0 || endsAt === Number.POSITIVE_INFINITY
      ? undefined
      : Math.max(0, endsAt - bootSeconds());
  }

  /** Our etcd lease cannot have run out: where it is gone, somebody has taken it away. */
  get lives(): boolean {
    return bootSeconds() < this.endsAt;
  }

  schedule(seconds: number): void {
    clearTimeout(this.timer);
    this.at = monotonicMs() + seconds * 1000;
    this.timer = setTimeout(this.options.onDue, Math.min(seconds * 1000 + 10, LONGEST_TIMER_MS));
    this.timer.unref();
  }

  /** From now on this key's etcd lease is the one to be renewed. */
  async begin(record: LeaseRecord): Promise<void> {
    this.endsAt = 0;
    if (!(await this.renew(record))) this.schedule(1);
  }

  /** Renews the key's etcd lease; a failure is logged, and tried again later. @returns false when the lease is gone */
  async renew({ etcdLease }: LeaseRecord): Promise<boolean> {
    const { store, log, marginSeconds } = this.options;
    if (etcdLease === '0') {
      this.endsAt = Number.POSITIVE_INFINITY;
      this.schedule(LONGEST_SECONDS); // a reservation does not expire
      return true;
    }
    try {
      const asked = bootSeconds();
      const ttl = await store.keepAlive(etcdLease);
      if (ttl === 0) return false;
      this.endsAt = asked + ttl;
      this.schedule(Math.max(1, Math.min(ttl / 3, Math.max(ttl - marginSeconds, ttl / 6), LONGEST_SECONDS)));
    } catch (error) {
      log.warn({ error: describeError(error) }, 'cannot renew our lease, will retry');
      this.schedule(RETRY_SECONDS);
    }
    return true;
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
