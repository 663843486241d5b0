import { randomInt } from 'node:crypto';
import type { Prefix } from '../../model/address.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import { monotonicMs } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import { type Claim, claimedLease } from '../plan/claim.ts';
import { type HeldLease, noAssertions } from '../plan/keeping.ts';
import { formatLeaseValue, type Lease, subnetsOf } from '../plan/lease.ts';
import {
  carriesOurIp,
  chooseSubnet,
  type NodeIdentity,
  type SubnetChoice,
  wasOurs,
} from '../plan/subnet-choice.ts';
import type { LeaseRecord } from './records.ts';
import type { EtcdLeases } from './store.ts';
import type { EtcdTracker } from './tracker.ts';

type Reuse = Extract<SubnetChoice, { kind: 'reuse' }>;
type Creation = Extract<SubnetChoice, { kind: 'create' }>;

/** A lease that we hold. */
export interface Held extends HeldLease {
  readonly record: LeaseRecord;
  /** The key as it was when we said first what it says: who claims the same since then came after us. */
  readonly origin: Pick<LeaseRecord, 'created' | 'revision'>;
}

/** What is known before an attempt. */
export interface Circumstances {
  /** Subnets that we had before; undefined for those of the claim. */
  readonly previous: readonly Prefix[] | undefined;
  /** Names of leases that carry our public IP and are another node's. */
  readonly foreign: ReadonlySet<string>;
  /** Gets the names of those that etcd does not let us write. */
  readonly refused: Set<string>;
  /** The lease that we hold and whose place the next one takes. */
  readonly standing: LeaseRecord | undefined;
}

/** Gets a lease for this node: one that is there and is its own, or a new one. */
export class EtcdAcquisition {
  private readonly store: EtcdLeases;
  private readonly tracker: EtcdTracker;
  private readonly log: Log;

  constructor(store: EtcdLeases, tracker: EtcdTracker, log: Log) {
    this.store = store;
    this.tracker = tracker;
    this.log = log;
  }

  /** @returns undefined when another node was faster: the leases are to be listed anew */
  async attempt(wish: Claim, circumstances: Circumstances): Promise<Held | undefined> {
    const { tracker } = this;
    const { previous = wish.identity.previous, foreign, refused, standing } = circumstances;
    const identity: NodeIdentity = { ...wish.identity, previous };
    const choice = chooseSubnet({
      config: wish.config,
      leases: [...tracker.leases.values()],
      identity,
      blocked: [...tracker.blocked(), ...this.leaving(wish)],
      foreign,
      random: (below) => (below > 0 ? randomInt(below) : 0),
    });
    return choice.kind === 'reuse' ? this.reuse(choice, wish, refused) : this.make(choice, wish, standing);
  }

  /** Subnets that others had a moment ago, and may take back. */
  private leaving(wish: Claim): Prefix[] {
    const leaving = this.tracker.belief.leaving();
    return leaving.filter((lease) => !carriesOurIp(lease, wish.identity)).flatMap(subnetsOf);
  }

  private async reuse(choice: Reuse, wish: Claim, refused: Set<string>): Promise<Held | undefined> {
    const { store, tracker, log } = this;
    const { name } = choice.lease;
    const lease = claimedLease(wish, subnetsOf(choice.lease));
    const known = tracker.records.get(name);
    let record: LeaseRecord | undefined;
    try {
      record = known === undefined ? undefined : await store.update(known, formatLeaseValue(lease));
    } catch (error) {
      if (!isTwillError(error, 'permission')) throw error;
      refused.add(name);
      log.warn(
        { lease: name, reason: describeError(error) },
        'a lease carries our public IP and is not ours',
      );
    }
    if (record === undefined) return undefined;
    log.info(
      { lease: record.name, reservation: record.etcdLease === '0' },
      'reusing the lease that carries our public IP',
    );
    const unprovenSince = choice.proven ? undefined : monotonicMs();
    const sure = wasOurs(choice.lease, wish.identity);
    return { record, lease, origin: record, unprovenSince, madeAt: undefined, sure, asserted: noAssertions };
  }

  private async make(
    choice: Creation,
    wish: Claim,
    standing: LeaseRecord | undefined,
  ): Promise<Held | undefined> {
    const { store, tracker, log } = this;
    const lease = claimedLease(wish, choice.subnets);
    let reserved = false;
    for (const one of choice.obsolete)
      if (one.name !== standing?.name && !(await this.giveBack(one))) reserved = true;
    const value = formatLeaseValue(lease);
    // A reservation of ours may stand for the same IPv4 subnet.
    const record =
      standing === undefined
        ? await store.create(lease.name, value, reserved).catch((error) => this.explain(error, wish))
        : await store.move(standing, lease.name, value);
    if (record === undefined) return undefined;
    if (standing !== undefined) tracker.forget(standing.name);
    log.info({ lease: record.name }, 'leased a subnet');
    const madeAt = monotonicMs();
    return {
      record,
      lease,
      origin: record,
      unprovenSince: undefined,
      madeAt,
      sure: true,
      asserted: noAssertions,
    };
  }

  /** A user that may write one key alone has to be told which. */
  private explain(error: unknown, { identity }: Claim): never {
    if (!isTwillError(error, 'permission')) throw error;
    const hint = JSON.stringify({ PublicIP: identity.publicIps[0]?.text });
    throw new TwillError(
      'permission',
      `this node's etcd user may not make a lease of its own choice: put ${hint} under the key below ${this.store.keyOf('')} that it may write (a reservation)`,
      error,
    );
  }

  /** @returns false when it stays: it is a reservation, or we may not write it */
  private async giveBack(lease: Lease): Promise<boolean> {
    const { store, tracker, log } = this;
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
    try {
      await store.remove(record);
    } catch (error) {
      if (isTwillError(error, 'permission')) return false; // another's, that says it were ours
      throw error;
    }
    tracker.forget(lease.name);
    return true;
  }
}
