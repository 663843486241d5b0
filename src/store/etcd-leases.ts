import { isDeepStrictEqual } from 'node:util';
import type { Etcd3, ICompare, IKeyValue, IWatchResponse } from 'etcd3';
import { noIpv4Subnet } from '../model/lease.ts';
import { type Certificates, type EtcdOptions, etcdError, openEtcd, readCertificates } from './etcd-client.ts';
import { keepLeaseAlive, watchKeys } from './etcd-streams.ts';

/** One key below `…/subnets/`. */
export interface LeaseRecord {
  /** The key's last part. */
  readonly name: string;
  readonly value: string;
  /** Revision that last changed the key. */
  readonly revision: bigint;
  /** The etcd lease the key hangs on; '0' for a reservation. */
  readonly etcdLease: string;
}

export interface LeaseListing {
  /** The network configuration, undefined when its key is missing. */
  readonly config: string | undefined;
  /** The store's revision that the listing shows: watch from the next one. */
  readonly revision: bigint;
}

export type LeaseEvent =
  | { readonly type: 'put'; readonly record: LeaseRecord }
  | { readonly type: 'delete'; readonly name: string; readonly revision: bigint };

export interface WatchHandler {
  /** Events of one answer, in order; those up to `revision` are complete then: resume from the next one. */
  events(events: readonly LeaseEvent[], revision: bigint): void;
  /** The network configuration changed at this revision; undefined when it was deleted. */
  config(text: string | undefined, revision: bigint): void;
  /** The watch stands; the member that serves it is at this revision. */
  connected(revision: bigint): void;
}

/** Leases in one answer of a listing. */
const PAGE = 1000;

/** Seconds a lease lives without renewal; flannel's value. */
export const LEASE_TTL_SECONDS = 24 * 60 * 60;

/** `[prefix, end)` selects every key that starts with `prefix`. */
function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]! += 1;
  return end;
}

/** flannel's lease schema in etcd. One call is one request, except where said; errors are TwillErrors. */
export class EtcdLeases {
  private readonly options: EtcdOptions;
  private client: Etcd3;
  private certificates: Certificates;
  private readonly configKey: string;
  private readonly subnets: string;

  /** @throws TwillError `invalid` when a credential file cannot be read */
  constructor(options: EtcdOptions) {
    this.options = options;
    this.certificates = readCertificates(options);
    this.client = openEtcd(options, this.certificates);
    this.configKey = `${options.prefix}/config`;
    this.subnets = `${options.prefix}/subnets/`;
  }

  /** The network configuration's key, for messages. */
  get configName(): string {
    return this.configKey;
  }

  /**
   * Leaves the connections for new ones, with the certificates as the files have them now: after a change of this node's
   * address the old ones are dead without a word.
   */
  reconnect(): void {
    this.certificates = this.currentCertificates();
    const old = this.client;
    this.client = openEtcd(this.options, this.certificates);
    old.close();
  }

  /** True when the certificates were renewed since the connections were opened. */
  certificatesChanged(): boolean {
    return !isDeepStrictEqual(this.currentCertificates(), this.certificates);
  }

  /** While files are missing or half replaced those of before are used. */
  private currentCertificates(): Certificates {
    try {
      return readCertificates(this.options);
    } catch {
      return this.certificates;
    }
  }

  keyOf(name: string): string {
    return this.subnets + name;
  }

  private async call<T>(what: string, request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (cause) {
      throw etcdError(what, this.options.endpoints, cause);
    }
  }

  private record(kv: IKeyValue): LeaseRecord {
    return {
      name: kv.key.toString('utf8', Buffer.byteLength(this.subnets)),
      value: kv.value.toString(),
      revision: BigInt(kv.mod_revision),
      etcdLease: kv.lease,
    };
  }

  /**
   * Configuration and all leases as of one revision, `onRecord` for each, with that revision. In pages, so that the answers of a big cluster
   * need not all be in memory at once.
   */
  async list(onRecord: (record: LeaseRecord, revision: bigint) => void): Promise<LeaseListing> {
    const end = prefixEnd(this.subnets);
    const answer = await this.call('list the leases', () =>
      this.client.kv.txn({
        success: [
          { request_range: { key: Buffer.from(this.configKey) } },
          { request_range: { key: Buffer.from(this.subnets), range_end: end, limit: PAGE } },
        ],
      }),
    );
    const { revision } = answer.header;
    const listed = BigInt(revision);
    let page = answer.responses[1]!.response_range;
    const config = answer.responses[0]!.response_range.kvs[0]?.value.toString();
    answer.responses = [];
    for (;;) {
      const last = page.kvs.at(-1)?.key;
      const key = page.more && last !== undefined ? Buffer.concat([last, Buffer.of(0)]) : undefined;
      // Etcd reads the next page while we read this one.
      const next =
        key &&
        this.call('list the leases', () =>
          this.client.kv.range({ key, range_end: end, limit: PAGE, revision }),
        );
      next?.catch(() => {}); // reported below, unless `onRecord` throws first
      for (const kv of page.kvs) onRecord(this.record(kv), listed);
      if (next === undefined) break;
      page = await next;
    }
    return { config, revision: listed };
  }

  private async grant(): Promise<string> {
    const answer = await this.call('grant an etcd lease', () =>
      this.client.leaseClient.leaseGrant({ TTL: LEASE_TTL_SECONDS }),
    );
    return answer.ID;
  }

  private revoke(etcdLease: string): Promise<unknown> {
    return this.client.leaseClient.leaseRevoke({ ID: etcdLease }).catch(() => undefined);
  }

  /**
   * Holds while no key has the IPv4 subnet of this one: with another IPv6 subnet beside it, or with none, it would be another
   * key, and two nodes would have one subnet.
   */
  private noneWithIpv4(name: string): ICompare[] {
    const [ipv4] = name.split('&') as [string];
    if (ipv4 === noIpv4Subnet) return [];
    const start = this.keyOf(ipv4);
    // The library's types lack the end of a range, its protocol definition has it.
    const range = { key: Buffer.from(start), range_end: prefixEnd(start) } as ICompare;
    return [{ ...range, target: 'Create', result: 'Equal', create_revision: '0' }];
  }

  /** Puts the key if its revision is still `expected` (0: absent) and `further` holds. @returns undefined when not */
  private async putIf(
    name: string,
    value: string,
    expected: bigint,
    etcdLease: string,
    further: readonly ICompare[] = [],
  ): Promise<LeaseRecord | undefined> {
    const key = Buffer.from(this.keyOf(name));
    const answer = await this.call(`write ${this.keyOf(name)}`, () =>
      this.client.kv.txn({
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: String(expected) }, ...further],
        success: [{ request_put: { key, value: Buffer.from(value), lease: etcdLease } }],
      }),
    );
    return answer.succeeded
      ? { name, value, revision: BigInt(answer.header.revision), etcdLease }
      : undefined;
  }

  private async putWithNewLease(
    name: string,
    value: string,
    expected: bigint,
    further: readonly ICompare[] = [],
  ): Promise<LeaseRecord | undefined> {
    const etcdLease = await this.grant();
    let record: LeaseRecord | undefined;
    try {
      record = await this.putIf(name, value, expected, etcdLease, further);
    } finally {
      if (record === undefined) await this.revoke(etcdLease);
    }
    return record;
  }

  /**
   * Creates the key on a new etcd lease. Two requests.
   * @param sharing another key may have the same IPv4 subnet
   * @returns undefined when somebody else has the key, or the IPv4 subnet
   */
  create(name: string, value: string, sharing = false): Promise<LeaseRecord | undefined> {
    return this.putWithNewLease(name, value, 0n, sharing ? [] : this.noneWithIpv4(name));
  }

  /**
   * Overwrites a key that is as we know it. A reservation stays one; otherwise the key's etcd lease is kept while it
   * lives, and is replaced by a new one.
   * @returns undefined when somebody else changed the key meanwhile
   */
  async update(known: LeaseRecord, value: string): Promise<LeaseRecord | undefined> {
    const kept = known.etcdLease === '0' || (await this.keepAlive(known.etcdLease)) > 0;
    if (!kept) return this.putWithNewLease(known.name, value, known.revision);
    if (known.value === value) return known;
    return this.putIf(known.name, value, known.revision, known.etcdLease);
  }

  /** Deletes the key if it is as we know it. */
  async remove(known: LeaseRecord): Promise<void> {
    const key = Buffer.from(this.keyOf(known.name));
    await this.call(`delete ${this.keyOf(known.name)}`, () =>
      this.client.kv.txn({
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: String(known.revision) }],
        success: [{ request_delete_range: { key } }],
      }),
    );
  }

  /** Renews an etcd lease. @returns seconds until it expires, 0 when it has already */
  keepAlive(etcdLease: string): Promise<number> {
    return this.call('renew the etcd lease', () => keepLeaseAlive(this.client, etcdLease));
  }

  /**
   * Reports changes from `revision` on until `signal` is aborted.
   * @returns `compacted` when that revision is no longer kept: list again
   * @throws TwillError `unavailable` when the stream breaks: watch again from the revision after the last reported
   */
  async watch(
    revision: bigint,
    handler: WatchHandler,
    signal: AbortSignal,
  ): Promise<'compacted' | 'stopped'> {
    // The library renews a token that etcd has forgotten (a restart) for plain requests only, not for streams.
    if (this.options.username !== undefined)
      await this.call('watch the leases', () =>
        this.client.kv.range({ key: Buffer.from(this.configKey), keys_only: true }),
      );
    return await this.call('watch the leases', () =>
      watchKeys(this.client, {
        prefix: this.options.prefix,
        revision,
        onCreated: (at) => handler.connected(at),
        onAnswer: (answer) => this.dispatch(answer, handler),
        signal,
      }),
    );
  }

  private dispatch(answer: IWatchResponse, handler: WatchHandler): void {
    const events: LeaseEvent[] = [];
    for (const { type, kv } of answer.events) {
      const deleted = String(type) === 'Delete';
      const key = kv.key.toString();
      if (key === this.configKey)
        handler.config(deleted ? undefined : kv.value.toString(), BigInt(kv.mod_revision));
      if (!key.startsWith(this.subnets)) continue;
      events.push(
        deleted
          ? { type: 'delete', name: key.slice(this.subnets.length), revision: BigInt(kv.mod_revision) }
          : { type: 'put', record: this.record(kv) },
      );
    }
    // While a watch catches up, the header has the store's revision in each of several answers.
    const last = answer.events.at(-1)?.kv.mod_revision;
    handler.events(events, BigInt(last ?? answer.header.revision));
  }

  close(): void {
    this.client.close();
  }
}
