import { randomInt } from 'node:crypto';
import type { Prefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { monotonicMs } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import { ReconcileLoop } from '../../process/loop.ts';
import { type Claim, claimedLease, isAnothers, saysLease, subnetsOf } from '../plan/claim.ts';
import { formatLeaseValue, type Lease, sameLease } from '../plan/lease.ts';
import { chooseSubnet, fits, type NodeIdentity } from '../plan/subnet-choice.ts';
import type { LeaseRecord } from './records.ts';
import { EtcdRenewal } from './renewal.ts';
import type { EtcdLeases } from './store.ts';
import type { EtcdTracker } from './tracker.ts';

/** Attempts to create a lease before other nodes' races are left to the loop's backoff; flannel's number. */
const RACE_RETRIES = 10;

/** An unproven takeover that nobody has disputed for this long counts as ours. */
const DISPUTE_MS = 60_000;

/** So often a lease is written back to a node with our own public IP; one that goes on for longer may be the right one. */
const MOST_ASSERTIONS = 20;
/** After so long without a dispute the next one is the first. */
const QUIET_MS = 10 * 60_000;

interface Held {
  readonly record: LeaseRecord;
  readonly lease: Lease;
  /** Taken over by public IP alone, at this time by the monotonic clock; undefined when the lease is ours beyond doubt. */
  readonly unprovenSince: number | undefined;
  /** How often we have written our content back after another node overwrote it, and when by the monotonic clock. */
  readonly asserted: { readonly count: number; readonly at: number };
}

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
 * different subnets, and both can see and name the other: nothing flaps. Whoever else writes over our lease does not get
 * it either: its key is still the one that we made.
 */
export class EtcdOwnership {
  private readonly options: OwnershipOptions;
  private readonly loop: ReconcileLoop;
  private wish: Claim | undefined;
  private held: Held | undefined;
  private previous: readonly Prefix[] | undefined;
  private readonly foreign = new Set<string>();
  private readonly renewal: EtcdRenewal;

  constructor(options: OwnershipOptions) {
    this.options = options;
    this.loop = new ReconcileLoop({
      name: 'lease',
      log: options.log,
      work: () => this.work(),
      backoffMs: { first: 200, longest: 10_000 },
    });
    const { store, log, renewMarginSeconds: marginSeconds } = options;
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

  /** Why the last attempt to get or keep the lease failed. */
  get lastError(): string | undefined {
    const { lastError } = this.loop.status();
    if (lastError === undefined || this.foreign.size === 0) return lastError;
    return `${lastError}; another node with our public IP holds ${[...this.foreign].join(', ')}: give the nodes different public IPs`;
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
    if (record === undefined) {
      this.lose(held, 'its key was deleted or has expired');
      return;
    }
    if (!fits(wish.config, subnetsOf(held.lease))) {
      // Until there is another lease this one holds.
      log.info({ lease: name }, 'our lease does not fit the changed network configuration, taking another');
      await this.acquire(wish);
      return;
    }
    const lease = claimedLease(wish, subnetsOf(held.lease));
    const overwritten = record.revision > held.record.revision && record.value !== held.record.value;
    if (overwritten && !saysLease(record, lease)) {
      // A key that was made anew is its maker's; one that was written over is still ours.
      if (record.created !== held.record.created && isAnothers(record, lease))
        this.lose(held, 'another node holds its key now');
      else await this.dispute(held, record, lease);
      return;
    }
    if (overwritten || saysLease(record, lease)) {
      this.hold({ ...held, record, lease }, false);
    } else {
      const updated = await this.options.store.update(record, formatLeaseValue(lease));
      if (updated === undefined) throw await this.raced(name);
      log.info({ lease: name, value: updated.value }, 'updated our lease');
      this.hold({ ...held, record: updated, lease }, true);
    }
    if (this.renewal.due && !(await this.renewal.renew(record))) {
      await tracker.refresh();
      if (this.held !== undefined) this.lose(this.held, 'its etcd lease has expired or was revoked');
    }
  }

  private async dispute(held: Held, record: LeaseRecord, lease: Lease): Promise<void> {
    const { store, log } = this.options;
    const { name } = held.record;
    const details = { lease: name, ours: held.record.value, theirs: record.value };
    const now = monotonicMs();
    const unproven = held.unprovenSince !== undefined && now - held.unprovenSince < DISPUTE_MS;
    const count = now - held.asserted.at < QUIET_MS ? held.asserted.count + 1 : 1;
    if (unproven || (count > MOST_ASSERTIONS && !isAnothers(record, lease))) {
      this.foreign.add(name);
      log.error(
        details,
        'another node with our public IP holds this subnet: taking another; give the nodes different public IPs',
      );
      this.previous = undefined;
      this.held = undefined;
      this.options.onOwn();
      return;
    }
    log.error(
      details,
      'another node has overwritten our lease: writing it back; give nodes different public IPs, and each the right to write its own key alone',
    );
    // On our own etcd lease: on another's, or on none, the key would not live and die with us.
    const updated = await store.update(
      { ...record, etcdLease: held.record.etcdLease },
      formatLeaseValue(lease),
    );
    if (updated === undefined) throw await this.raced(name);
    this.hold({ ...held, record: updated, lease, asserted: { count, at: now } }, false);
  }

  private lose(held: Held, why: string): void {
    this.options.log.error({ lease: held.record.name, why }, 'our lease is lost, taking a new one');
    this.previous = subnetsOf(held.lease);
    this.held = undefined;
    this.options.onOwn();
  }

  private async acquire(wish: Claim): Promise<void> {
    for (let attempt = 0; attempt < RACE_RETRIES; attempt++) {
      if (attempt > 0) await this.options.tracker.refresh();
      const held = await this.tryAcquire(wish);
      if (held === undefined) continue;
      const old = this.standing();
      this.renewal.schedule(60);
      this.hold(held, true);
      if (old !== undefined && old.name !== held.record.name) await this.options.store.remove(old);
      return;
    }
    throw new TwillError('conflict', 'other nodes took every subnet that was tried first');
  }

  private async tryAcquire(wish: Claim): Promise<Held | undefined> {
    const { store, tracker, log } = this.options;
    const identity: NodeIdentity = { ...wish.identity, previous: this.previous ?? wish.identity.previous };
    const choice = chooseSubnet({
      config: wish.config,
      leases: [...tracker.leases.values()],
      identity,
      blocked: tracker.blocked(),
      foreign: this.foreign,
      random: (below) => (below > 0 ? randomInt(below) : 0),
    });
    const base = { asserted: { count: 0, at: 0 }, unprovenSince: undefined };
    if (choice.kind === 'reuse') {
      const lease = claimedLease(wish, subnetsOf(choice.lease));
      const known = tracker.records.get(choice.lease.name);
      const record = known === undefined ? undefined : await store.update(known, formatLeaseValue(lease));
      if (record === undefined) return undefined;
      log.info(
        { lease: record.name, reservation: record.etcdLease === '0' },
        'reusing the lease that carries our public IP',
      );
      return { ...base, record, lease, unprovenSince: choice.proven ? undefined : monotonicMs() };
    }
    const lease = claimedLease(wish, choice.subnets);
    const standing = this.standing();
    let reserved = false;
    for (const one of choice.obsolete)
      if (one.name !== standing?.name && !(await this.giveBack(one))) reserved = true;
    const value = formatLeaseValue(lease);
    // A reservation of ours may stand for the same IPv4 subnet.
    const record =
      standing === undefined
        ? await store.create(lease.name, value, reserved)
        : await store.move(standing, lease.name, value);
    if (record === undefined) return undefined;
    if (standing !== undefined) tracker.forget(standing.name);
    log.info({ lease: record.name }, 'leased a subnet');
    return { ...base, record, lease };
  }

  /** The lease that we hold, where another is to take its place; a reservation stays where it is. */
  private standing(): LeaseRecord | undefined {
    const { name } = this.held?.record ?? {};
    const record = name === undefined ? undefined : this.options.tracker.records.get(name);
    return record?.etcdLease === '0' ? undefined : record;
  }

  /** @returns false when it stays: it is a reservation */
  private async giveBack(lease: Lease): Promise<boolean> {
    const { store, tracker, log } = this.options;
    const record = tracker.records.get(lease.name);
    if (record === undefined) return true;
    if (record.etcdLease === '0') {
      log.warn(
        { lease: lease.name },
        'the subnet reserved for us does not fit the network configuration: leaving it as it is, delete or move it',
      );
      return false;
    }
    log.warn(
      { lease: lease.name },
      'our lease does not fit the network configuration any more, giving it back',
    );
    await store.remove(record);
    tracker.forget(lease.name);
    return true;
  }

  private hold(held: Held, tell: boolean): void {
    const changed = this.held === undefined || !sameLease(this.held.lease, held.lease);
    this.held = held;
    this.options.tracker.learn(held.record);
    if (tell || changed) this.options.onOwn();
  }

  private async raced(name: string): Promise<TwillError> {
    await this.options.tracker.refresh();
    return new TwillError('conflict', `${this.options.store.keyOf(name)} changed while we were writing it`);
  }
}
