import { setTimeout as delay } from 'node:timers/promises';
import type { Prefix } from '../../model/address.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import { coalesce } from '../../process/coalesce.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { Belief } from '../belief.ts';
import { type Lease, parseLease, parseLeaseKeyName } from '../plan/lease.ts';
import type { LeaseEvent, LeaseRecord } from './records.ts';
import type { EtcdLeases } from './store.ts';

/** Stands for the configuration among the names of leases. */
const CONFIG = '';

const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 10_000;

/** What of the store the tracker needs. */
export type TrackedStore = Pick<
  EtcdLeases,
  'list' | 'watch' | 'remembers' | 'keyOf' | 'reconnect' | 'certificatesChanged'
>;

/** What the tracker tells: names of leases that changed, or the configuration did. */
export interface TrackerEvents {
  leases(names: ReadonlySet<string>): void;
  config(text: string | undefined): void;
  /** False of a lease that is of no use under the network configuration. */
  works(lease: Lease): boolean;
}

function sameRecord(a: LeaseRecord, b: LeaseRecord | undefined): boolean {
  return (
    b !== undefined &&
    a.oversize === b.oversize &&
    a.revision === b.revision &&
    a.value === b.value &&
    a.etcdLease === b.etcdLease
  );
}

/**
 * Mirrors the leases and the configuration in etcd: a full list, then a watch from its revision. A broken watch resumes
 * where it was; one whose revision was compacted lists again.
 */
export class EtcdTracker {
  readonly records = new Map<string, LeaseRecord>();
  /** As they stand in etcd. */
  readonly leases = new Map<string, Lease>();
  readonly belief: Belief;
  /** Entries that cannot be read, with the reason. */
  readonly malformed = new Map<string, string>();
  configText: string | undefined;
  connected = false;
  lastError: string | undefined;
  private readonly store: TrackedStore;
  private readonly log: Log;
  private readonly events: TrackerEvents;
  private readonly limiter = new LogLimiter();
  /** Of entries that cannot be read: one line a minute for each, and for thousands at once not as many. */
  private readonly unreadable = new LogLimiter();
  private readonly abort = new AbortController();
  /** Ends the watch or the wait under way. */
  private round = new AbortController();
  private running: Promise<void> | undefined;
  private revision = 0n;
  /** Up to this one the configuration is known. */
  private configRevision = 0n;
  private relist = true;
  /** Revisions of what was learnt while a listing is under way, by name: it may show what was before. */
  private recent: Map<string, bigint> | undefined;

  constructor(store: TrackedStore, log: Log, events: TrackerEvents) {
    this.store = store;
    this.log = log;
    this.events = events;
    this.belief = new Belief({
      log,
      works: (lease) => events.works(lease),
      onSettled: (names) => events.leases(names),
    });
  }

  start(): void {
    this.running = this.run(this.abort.signal);
  }

  /** Watches over a new connection from now on. */
  reconnect(): void {
    this.store.reconnect();
    this.round.abort();
  }

  async stop(): Promise<void> {
    this.abort.abort();
    this.belief.stop();
    await this.running;
  }

  /** Subnets of malformed entries whose key could be read: somebody uses them. */
  blocked(): Prefix[] {
    return [...this.malformed.keys()].flatMap((name) => {
      try {
        return parseLeaseKeyName(name);
      } catch {
        return [];
      }
    });
  }

  /** Takes in a write of our own before the watch reports it. */
  learn(record: LeaseRecord): void {
    if ((this.records.get(record.name)?.revision ?? 0n) >= record.revision) return;
    this.recent?.set(record.name, record.revision);
    this.put(record);
    this.belief.settleNow(record.name);
  }

  /** We have deleted a key ourselves. */
  forget(name: string): void {
    this.belief.settleNow(name);
    this.drop(name);
  }

  /** A key is gone. One without an etcd lease (a reservation) is its administrator's to take away. */
  private gone(name: string): void {
    const given = this.records.get(name)?.etcdLease === '0';
    this.belief.said(name, this.leases.get(name), { lease: undefined, given });
    this.drop(name);
  }

  private drop(name: string): void {
    this.records.delete(name);
    this.leases.delete(name);
    this.malformed.delete(name);
  }

  /** Lists everything now and reports what differs from the mirror. */
  readonly refresh = coalesce(async () => {
    const recent = new Map<string, bigint>();
    this.recent = recent;
    try {
      await this.list((name, revision) => (recent.get(name) ?? 0n) > revision);
    } finally {
      this.recent = undefined;
    }
  });

  /** @param newer says whether more than that revision of an entry is known */
  private async list(newer: (name: string, revision: bigint) => boolean): Promise<void> {
    const before = this.revision;
    const changed = new Set<string>();
    const names = new Set<string>();
    const { config, revision } = await this.store.list((record, listed) => {
      names.add(record.name);
      if (newer(record.name, listed) || sameRecord(record, this.records.get(record.name))) return;
      this.put(record);
      changed.add(record.name);
    });
    for (const name of [...this.records.keys()]) {
      if (names.has(name) || newer(name, revision)) continue;
      this.gone(name);
      changed.add(name);
    }
    this.relist = false;
    if (revision < before) this.wentBack(before, revision);
    else if (revision > this.revision) this.revision = revision;
    if (!newer(CONFIG, revision)) this.setConfig(config, revision);
    if (changed.size > 0) this.events.leases(changed);
  }

  /** A watch from a revision that is still to come again would be silent until then. */
  private wentBack(before: bigint, revision: bigint): void {
    this.log.warn(
      { before: String(before), now: String(revision) },
      'etcd knows less than it did (set up anew, or restored from a backup): everything was listed again',
    );
    this.revision = revision;
    this.round.abort();
  }

  private setConfig(text: string | undefined, revision: bigint): void {
    this.configRevision = revision;
    if (text === this.configText && text !== undefined) return;
    this.configText = text;
    this.events.config(text);
  }

  private read({ name, value, oversize, created, revision }: LeaseRecord): Lease {
    if (oversize !== undefined)
      throw new TwillError('invalid', `its value of ${oversize} characters is longer than any lease's`);
    return parseLease(name, value, { created, changed: Number(revision) });
  }

  private put(record: LeaseRecord): void {
    this.records.set(record.name, record);
    const before = this.leases.get(record.name);
    try {
      const lease = this.read(record);
      const current = this.belief.said(record.name, before, { lease }) ?? lease;
      // An etcd that knows less than it did counts anew: by the old numbers whoever comes now would have been there first.
      const countsAnew = lease.order.changed < current.order.changed;
      this.leases.set(record.name, countsAnew ? { ...current, order: lease.order } : current);
      this.malformed.delete(record.name);
    } catch (error) {
      this.belief.said(record.name, before, { lease: undefined });
      this.leases.delete(record.name);
      const reason = describeError(error);
      if (this.malformed.get(record.name) !== reason && this.unreadable.allow(record.name) !== undefined)
        this.log.warn({ key: this.store.keyOf(record.name), reason }, 'skipped a lease that cannot be read');
      this.malformed.set(record.name, reason);
    }
  }

  private apply(events: readonly LeaseEvent[], revision: bigint): void {
    const changed = new Set<string>();
    for (const event of events) {
      const name = event.type === 'put' ? event.record.name : event.name;
      const at = event.type === 'put' ? event.record.revision : event.revision;
      if ((this.records.get(name)?.revision ?? 0n) >= at) continue;
      this.recent?.set(name, at);
      if (event.type === 'put') this.put(event.record);
      else this.gone(name);
      changed.add(name);
    }
    if (revision > this.revision) this.revision = revision;
    if (changed.size > 0) this.events.leases(changed);
  }

  private async follow(signal: AbortSignal): Promise<void> {
    if (!this.relist) await this.recall();
    const fresh = this.relist;
    if (fresh) await this.refresh();
    const end = await this.watch(fresh, signal);
    if (end === 'compacted') {
      this.relist = true;
      this.log.info(
        { revision: String(this.revision) },
        'etcd has compacted the watched revision, listing again',
      );
    }
  }

  /** Whether etcd has the history that we know, so that a watch may go on with it. */
  private async recall(): Promise<void> {
    const { configRevision, configText: config, records } = this;
    // The watch of the configuration may have come further than that of the leases.
    const revision = configRevision > this.revision ? configRevision : this.revision;
    let newest: LeaseRecord | undefined;
    for (const record of records.values())
      if (newest === undefined || record.revision > newest.revision) newest = record;
    try {
      this.relist = !(await this.store.remembers({ revision, config, leases: records.size, newest }));
    } catch (error) {
      if (isTwillError(error, 'exhausted')) this.relist = true;
      throw error;
    }
    if (this.relist)
      this.log.info(
        { revision: String(revision) },
        'etcd has not the history that was known: it has been compacted, restored from a backup, or changed meanwhile; listing again',
      );
  }

  /** Changes that are too big to be told are listed. */
  private async watch(fresh: boolean, signal: AbortSignal): Promise<'compacted' | 'stopped'> {
    try {
      return await this.watchFrom(fresh, signal);
    } catch (error) {
      if (isTwillError(error, 'exhausted')) this.relist = true;
      throw error;
    }
  }

  private watchFrom(fresh: boolean, signal: AbortSignal): Promise<'compacted' | 'stopped'> {
    return this.store.watch(
      this.revision + 1n,
      {
        events: (events, revision) => this.apply(events, revision),
        config: (text, revision) => {
          if (revision <= this.configRevision) return; // told again after the watch broke
          this.recent?.set(CONFIG, revision);
          this.setConfig(text, revision);
        },
        connected: (revision) => {
          // The member lags behind the others, or all of etcd is of before: a listing tells.
          this.relist = revision < this.revision && !fresh;
          if (this.relist) this.round.abort();
          else this.setConnected();
        },
      },
      signal,
    );
  }

  private setConnected(): void {
    if (this.lastError !== undefined) this.log.info('etcd answers again');
    this.connected = true;
    this.lastError = undefined;
  }

  /** Connects anew where the certificates were renewed; a failure is told, and tried again with the next attempt. */
  private reconnected(): boolean {
    try {
      if (!this.store.certificatesChanged()) return false;
      this.log.info('the certificates for etcd have changed, connecting anew');
      this.store.reconnect();
      return true;
    } catch (error) {
      this.lastError = describeError(error);
      if (this.limiter.allow('reconnect') !== undefined)
        this.log.warn({ error: this.lastError }, 'cannot connect to etcd anew, will retry');
      return false;
    }
  }

  private async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const before = this.revision;
      this.round = new AbortController();
      const round = AbortSignal.any([signal, this.round.signal]);
      try {
        await this.follow(round);
        failures = 0;
      } catch (error) {
        this.lastError = describeError(error);
        if (this.connected || this.revision !== before) failures = 0;
        let retryInMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures++);
        // Each longer wait is told, then one line a minute.
        if (retryInMs < LONGEST_RETRY_MS || this.limiter.allow('retry') !== undefined)
          this.log.warn({ error: this.lastError, retryInMs }, 'cannot follow the leases in etcd, will retry');
        this.connected = false;
        if (this.reconnected()) {
          retryInMs = FIRST_RETRY_MS;
          failures = 0;
        }
        await delay(retryInMs, undefined, { signal: round }).catch(() => undefined);
      }
      this.connected = false;
    }
  }
}
