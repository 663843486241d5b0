import { setTimeout as sleep } from 'node:timers/promises';
import type { Prefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { monotonicMs } from '../../process/clock.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { ReconcileLoop } from '../../process/loop.ts';
import { type Claim, claimedLease } from '../plan/claim.ts';
import { assertedAgain, isContested, keeping, yieldsTo } from '../plan/keeping.ts';
import { formatLeaseValue, type Lease, sameLease, subnetsOf } from '../plan/lease.ts';
import { TENURE_MS } from '../plan/tenure.ts';
import { EtcdAcquisition, type Held } from './acquisition.ts';
import { removeImpostors } from './impostors.ts';
import type { LeaseRecord } from './records.ts';
import { EtcdRenewal } from './renewal.ts';
import type { EtcdLeases } from './store.ts';
import type { EtcdTracker } from './tracker.ts';

/** Attempts to create a lease before other nodes' races are left to the loop's backoff; flannel's number. */
const RACE_RETRIES = 10;

/** Once our lease was written back several times, further ones wait for so long: often enough for those who believe us. */
const ASSERTION_GAP_MS = TENURE_MS / 8;
/** For so long after our lease was taken we look for what was made beside it. */
const AFTERMATH_MS = 2 * TENURE_MS;

export interface OwnershipOptions {
  readonly store: EtcdLeases;
  readonly tracker: EtcdTracker;
  readonly log: Log;
  readonly renewMarginSeconds: number;
  /** Our lease was got, lost or changed. */
  readonly onOwn: () => void;
}

/**
 * Takes this node's lease, keeps it alive and correct, and takes another when it is lost.
 *
 * Two nodes that are given the same public IP find the same lease. The one that held it writes its content back; the
 * newcomer, which took it over on no other evidence than the IP, gives way to a subnet of its own. Both then hold
 * different subnets, and both can see and name the other: nothing flaps. Whoever else writes over our lease, deletes it or
 * takes its subnet does not get it either: as long as our etcd lease has not run out, we take it back.
 */
export class EtcdOwnership {
  private readonly options: OwnershipOptions;
  private readonly loop: ReconcileLoop;
  private wish: Claim | undefined;
  private held: Held | undefined;
  private previous: readonly Prefix[] | undefined;
  private readonly foreign = new Set<string>();
  private readonly limiter = new LogLimiter();
  private readonly acquisition: EtcdAcquisition;
  private readonly renewal: EtcdRenewal;
  private readonly abort = new AbortController();
  private aftermath: NodeJS.Timeout | undefined;
  /** Our lease was just written back, and what was made beside it may be there for a moment yet. */
  private clearing = false;

  constructor(options: OwnershipOptions) {
    this.options = options;
    this.loop = new ReconcileLoop({
      name: 'lease',
      log: options.log,
      work: () => this.work(),
      backoffMs: { first: 200, longest: 10_000 },
    });
    const { store, tracker, log, renewMarginSeconds: marginSeconds } = options;
    this.acquisition = new EtcdAcquisition(store, tracker, log);
    this.renewal = new EtcdRenewal({
      store,
      log,
      marginSeconds,
      onDue: () => this.loop.trigger('renewal is due', true),
    });
  }

  claim(claim: Claim): void {
    this.wish = claim;
    this.loop.trigger('claim', true);
  }

  own(): Lease | undefined {
    return this.held?.lease;
  }

  /** Our lease stands as we wrote it, and what claims to be ours is gone, or may not be taken away by us. */
  get settled(): boolean {
    const { record } = this.held ?? {};
    if (record === undefined || this.clearing) return false;
    return this.options.tracker.records.get(record.name)?.value === record.value;
  }

  /** Why the last attempt to get or keep the lease failed. */
  get lastError(): string | undefined {
    const { lastError } = this.loop.status();
    if (lastError === undefined || this.foreign.size === 0) return lastError;
    return `${lastError}; another node with our public IP holds ${[...this.foreign].join(', ')}: give the nodes different public IPs`;
  }

  /** Says that somebody keeps writing over our lease, and we over what he writes: the two may both be right. */
  get disputed(): string | undefined {
    const { record, asserted } = this.held ?? {};
    if (record === undefined || asserted === undefined) return undefined;
    if (!isContested(asserted, monotonicMs())) return undefined;
    return `another has overwritten or deleted our lease ${record.name} ${asserted.count} times, and we wrote it back: the log has his; stop that node's agent or this one's`;
  }

  /** The tracker saw these leases change. */
  noticed(names: ReadonlySet<string>): void {
    if (this.held !== undefined && names.has(this.held.record.name))
      this.loop.trigger('own lease changed', true);
  }

  get secondsLeft(): number | undefined {
    return this.held === undefined ? undefined : this.renewal.secondsLeft;
  }

  async stop(): Promise<void> {
    this.renewal.stop();
    this.abort.abort();
    clearTimeout(this.aftermath);
    await this.loop.stop();
  }

  private async work(): Promise<void> {
    const { wish } = this;
    if (wish === undefined) return;
    if (this.held !== undefined) await this.keep(this.held, wish);
    if (this.held === undefined) await this.acquire(wish);
  }

  /** Checks the lease we hold against what etcd says now. Ends with `held` undefined when it is lost. */
  private async keep(held: Held, wish: Claim): Promise<void> {
    const { tracker, log } = this.options;
    const { name } = held.record;
    const record = tracker.records.get(name);
    const step = keeping(held, record, wish, this.renewal.lives);
    if (step.kind === 'lost') {
      this.lose(held, step.why);
      return;
    }
    if (step.kind === 'replace') {
      if (this.limiter.allow(`unfit ${name}`) !== undefined)
        log.info({ lease: name }, 'our lease does not fit the changed network configuration, taking another');
      await this.acquire(wish);
      return;
    }
    const lease = claimedLease(wish, subnetsOf(held.lease));
    if (record === undefined) {
      await this.assert(held, undefined, lease);
      return;
    }
    if (step.kind === 'dispute') {
      await this.dispute(held, record, lease);
      return;
    }
    if (step.kind === 'confirm') this.hold({ ...held, record, lease }, false);
    else await this.update(held, record, lease);
    if (monotonicMs() - held.asserted.at < AFTERMATH_MS)
      await removeImpostors(this.options, held.origin, lease);
    if (this.renewal.due) await this.renew(record);
  }

  /** Writes what our lease should say now. */
  private async update(held: Held, record: LeaseRecord, lease: Lease): Promise<void> {
    const { store, log } = this.options;
    const updated = await store.update(record, formatLeaseValue(lease));
    if (updated === undefined) throw await this.raced(record.name);
    log.info({ lease: record.name, value: updated.value }, 'updated our lease');
    const origin = { ...held.origin, revision: updated.revision };
    this.hold({ ...held, record: updated, lease, origin }, true);
  }

  private async renew(record: LeaseRecord): Promise<void> {
    if (await this.renewal.renew(record)) return;
    await this.options.tracker.refresh();
    const { held } = this;
    if (held === undefined) return;
    if (this.renewal.lives) await this.assert(held, undefined, held.lease);
    else this.lose(held, 'its etcd lease has expired');
  }

  /** Another value stands in the place of ours. */
  private async dispute(held: Held, record: LeaseRecord, lease: Lease): Promise<void> {
    if (!yieldsTo(record, lease, held, monotonicMs())) {
      await this.assert(held, record, lease);
      return;
    }
    const { name } = held.record;
    this.foreign.add(name);
    this.options.log.error(
      { lease: name, ours: held.record.value, theirs: record.value },
      'another node holds this subnet: taking another; give nodes different public IPs',
    );
    this.previous = undefined;
    this.held = undefined;
    this.options.onOwn();
  }

  /** Writes our lease back. @param record what stands in its place; undefined where it is gone */
  private async assert(held: Held, record: LeaseRecord | undefined, lease: Lease): Promise<void> {
    const { store, log } = this.options;
    const { name } = held.record;
    const { asserted, waits } = assertedAgain(held.asserted, monotonicMs());
    if (this.limiter.allow(name) !== undefined)
      log.error(
        { lease: name, ours: held.record.value, theirs: record?.value ?? 'nothing', count: asserted.count },
        'another has overwritten or deleted our lease: writing it back; give nodes different public IPs, and each the right to write its own key alone',
      );
    if (waits) await sleep(ASSERTION_GAP_MS, undefined, { signal: this.abort.signal }).catch(() => undefined);
    const updated = await store.retake(held.record, formatLeaseValue(lease), record !== undefined);
    let cleared: boolean;
    this.clearing = true;
    try {
      this.hold({ ...held, record: updated, lease, asserted }, false);
      if (updated.etcdLease !== held.record.etcdLease) await this.renewal.begin(updated);
      cleared = await removeImpostors(this.options, held.origin, lease);
    } finally {
      this.clearing = false;
    }
    // To another MAC address, say, where somebody else's lease keeps ours.
    if (!cleared) this.options.onOwn();
    // Some may have come to etcd before what we wrote, and not to us.
    clearTimeout(this.aftermath);
    this.aftermath = setTimeout(() => this.loop.trigger('our lease was taken'), AFTERMATH_MS / 2);
    this.aftermath.unref();
  }

  private lose(held: Held, why: string): void {
    this.options.log.error({ lease: held.record.name, why }, 'our lease is lost, taking a new one');
    this.previous = subnetsOf(held.lease);
    this.held = undefined;
    this.options.onOwn();
  }

  private async acquire(wish: Claim): Promise<void> {
    const refused = new Set<string>();
    for (let attempt = 0; attempt < RACE_RETRIES; attempt++) {
      if (attempt > 0) await this.options.tracker.refresh();
      const old = this.standing();
      const held = await this.acquisition.attempt(wish, {
        previous: this.previous,
        foreign: new Set([...this.foreign, ...refused]),
        standing: old,
        refused,
      });
      if (held === undefined) continue;
      this.hold(held, true);
      if (old !== undefined && old.name !== held.record.name) await this.options.store.remove(old);
      await this.renewal.begin(held.record);
      return;
    }
    throw new TwillError('conflict', 'other nodes took every subnet that was tried first');
  }

  /** The lease that we hold, where another is to take its place; a reservation stays where it is. */
  private standing(): LeaseRecord | undefined {
    const { name } = this.held?.record ?? {};
    const record = name === undefined ? undefined : this.options.tracker.records.get(name);
    return record?.etcdLease === '0' ? undefined : record;
  }

  private hold(held: Held, tell: boolean): void {
    const before = this.held?.lease;
    const changed = before === undefined || !sameLease(before, held.lease);
    // An etcd that was set up anew, or restored, counts anew.
    const countsAnew = held.record.revision < held.origin.revision;
    // What says the same stays the same object: whoever holds one tells by that that there is nothing to do.
    this.held = {
      ...held,
      lease: changed ? held.lease : before,
      origin: countsAnew ? held.record : held.origin,
    };
    this.options.tracker.learn(held.record);
    if (tell || changed) this.options.onOwn();
  }

  private async raced(name: string): Promise<TwillError> {
    await this.options.tracker.refresh();
    return new TwillError('conflict', `${this.options.store.keyOf(name)} changed while we were writing it`);
  }
}
