import { setTimeout as delay } from 'node:timers/promises';
import { type Log, LogLimiter } from '../config/log.ts';
import type { Prefix } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { type Lease, parseLease, parseLeaseKeyName } from '../model/lease.ts';
import type { EtcdLeases, LeaseEvent, LeaseRecord } from '../store/etcd-leases.ts';

const FIRST_RETRY_MS = 200;
const LONGEST_RETRY_MS = 10_000;

/** What the tracker tells: names of leases that changed, or the configuration did. */
export interface TrackerEvents {
  leases(names: ReadonlySet<string>): void;
  config(text: string | undefined): void;
}

/**
 * Mirrors the leases and the configuration in etcd: a full list, then a watch from its revision. A broken watch resumes
 * where it was; one whose revision was compacted lists again.
 */
export class EtcdTracker {
  readonly records = new Map<string, LeaseRecord>();
  readonly leases = new Map<string, Lease>();
  /** Entries that cannot be read, with the reason. */
  readonly malformed = new Map<string, string>();
  configText: string | undefined;
  connected = false;
  lastError: string | undefined;
  private readonly store: EtcdLeases;
  private readonly log: Log;
  private readonly events: TrackerEvents;
  private readonly limiter = new LogLimiter();
  private readonly abort = new AbortController();
  /** Ends the watch or the wait under way. */
  private round = new AbortController();
  private running: Promise<void> | undefined;
  private revision = 0n;
  private relist = true;

  constructor(store: EtcdLeases, log: Log, events: TrackerEvents) {
    this.store = store;
    this.log = log;
    this.events = events;
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
    if ((this.records.get(record.name)?.revision ?? 0n) < record.revision) this.put(record);
  }

  forget(name: string): void {
    this.records.delete(name);
    this.leases.delete(name);
    this.malformed.delete(name);
  }

  /** Lists everything now and reports what differs from the mirror. */
  async refresh(): Promise<void> {
    const changed = new Set<string>();
    const names = new Set<string>();
    const listing = await this.store.list((record) => {
      names.add(record.name);
      if (this.records.get(record.name)?.revision === record.revision) return;
      this.put(record);
      changed.add(record.name);
    });
    for (const name of [...this.records.keys()]) {
      if (names.has(name)) continue;
      this.forget(name);
      changed.add(name);
    }
    this.revision = listing.revision;
    this.relist = false;
    this.setConfig(listing.config);
    if (changed.size > 0) this.events.leases(changed);
  }

  private setConfig(text: string | undefined): void {
    if (text === this.configText && text !== undefined) return;
    this.configText = text;
    this.events.config(text);
  }

  private put(record: LeaseRecord): void {
    this.records.set(record.name, record);
    try {
      this.leases.set(record.name, parseLease(record.name, record.value));
      this.malformed.delete(record.name);
    } catch (error) {
      this.leases.delete(record.name);
      const reason = describeError(error);
      if (this.malformed.get(record.name) !== reason)
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
      if (event.type === 'put') this.put(event.record);
      else this.forget(name);
      changed.add(name);
    }
    if (revision > this.revision) this.revision = revision;
    if (changed.size > 0) this.events.leases(changed);
  }

  private async follow(signal: AbortSignal): Promise<void> {
    if (this.relist) await this.refresh();
    const end = await this.store.watch(
      this.revision + 1n,
      {
        events: (events, revision) => this.apply(events, revision),
        config: (text) => this.setConfig(text),
        connected: () => this.setConnected(),
      },
      signal,
    );
    if (end === 'compacted') {
      this.relist = true;
      this.log.info(
        { revision: String(this.revision) },
        'etcd has compacted the watched revision, listing again',
      );
    }
  }

  private setConnected(): void {
    if (this.lastError !== undefined) this.log.info('etcd answers again');
    this.connected = true;
    this.lastError = undefined;
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
        if (this.store.certificatesChanged()) {
          this.log.info('the certificates for etcd have changed, connecting anew');
          this.store.reconnect();
          retryInMs = FIRST_RETRY_MS;
          failures = 0;
        }
        await delay(retryInMs, undefined, { signal: round }).catch(() => undefined);
      }
      this.connected = false;
    }
  }
}
