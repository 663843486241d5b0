import type { ICompare } from 'etcd3';
import { noIpv4Subnet } from '../plan/lease.ts';
import type { EtcdOptions } from './client.ts';
import { EtcdConnection } from './connection.ts';
import { LeaseKeys, type LeaseListing, type LeaseRecord, prefixEnd, type WatchHandler } from './records.ts';
import { keepLeaseAlive, watchKeys } from './streams.ts';

/** Leases in one answer of a listing. */
const PAGE = 1000;

/** Seconds a lease lives without renewal; flannel's value. */
export const LEASE_TTL_SECONDS = 24 * 60 * 60;

/** flannel's lease schema in etcd. One call is one request, except where said; errors are TwillErrors. */
export class EtcdLeases {
  private readonly connection: EtcdConnection;
  private readonly keys: LeaseKeys;

  /** @throws TwillError `invalid` when a credential file cannot be read */
  constructor(options: EtcdOptions) {
    this.connection = new EtcdConnection(options);
    this.keys = new LeaseKeys(options.prefix);
  }

  /** The network configuration's key, for messages. */
  get configName(): string {
    return this.keys.config;
  }

  keyOf(name: string): string {
    return this.keys.of(name);
  }

  /** Leaves the connections for new ones, with the certificates as the files have them now. */
  reconnect(): void {
    this.connection.reconnect();
  }

  /** True when the certificates were renewed since the connections were opened. */
  certificatesChanged(): boolean {
    return this.connection.certificatesChanged();
  }

  /**
   * Configuration and all leases as of one revision, `onRecord` for each, with that revision. In pages, so that the
   * answers of a big cluster need not all be in memory at once.
   */
  async list(onRecord: (record: LeaseRecord, revision: bigint) => void): Promise<LeaseListing> {
    const end = prefixEnd(this.keys.subnets);
    const answer = await this.connection.call('list the leases', (client) =>
      client.kv.txn({
        success: [
          { request_range: { key: Buffer.from(this.keys.config) } },
          { request_range: { key: Buffer.from(this.keys.subnets), range_end: end, limit: PAGE } },
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
        this.connection.call('list the leases', (client) =>
          client.kv.range({ key, range_end: end, limit: PAGE, revision }),
        );
      next?.catch(() => {}); // reported below, unless `onRecord` throws first
      for (const kv of page.kvs) onRecord(this.keys.record(kv), listed);
      if (next === undefined) break;
      page = await next;
    }
    return { config, revision: listed };
  }

  private async grant(): Promise<string> {
    const answer = await this.connection.call('grant an etcd lease', (client) =>
      client.leaseClient.leaseGrant({ TTL: LEASE_TTL_SECONDS }),
    );
    return answer.ID;
  }

  /** One that cannot be revoked ends by itself. */
  private async revoke(etcdLease: string): Promise<void> {
    await this.connection
      .call('revoke an etcd lease', (client) => client.leaseClient.leaseRevoke({ ID: etcdLease }))
      .catch(() => undefined);
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
    const answer = await this.connection.call(`write ${this.keyOf(name)}`, (client) =>
      client.kv.txn({
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
    await this.connection.call(`delete ${this.keyOf(known.name)}`, (client) =>
      client.kv.txn({
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: String(known.revision) }],
        success: [{ request_delete_range: { key } }],
      }),
    );
  }

  /** Renews an etcd lease. @returns seconds until it expires, 0 when it has already */
  keepAlive(etcdLease: string): Promise<number> {
    return this.connection.call('renew the etcd lease', (client) => keepLeaseAlive(client, etcdLease));
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
    if (this.connection.authenticates)
      await this.connection.call('watch the leases', (client) =>
        client.kv.range({ key: Buffer.from(this.keys.config), keys_only: true }),
      );
    return await this.connection.call('watch the leases', (client) =>
      watchKeys(client, {
        ranges: [
          { start: Buffer.from(this.keys.subnets), end: prefixEnd(this.keys.subnets) },
          { start: Buffer.from(this.keys.config) },
        ],
        revision,
        onCreated: (at) => handler.connected(at),
        // How far the watch has come the leases tell: what is told of the configuration again does no harm.
        onAnswer: (answer, range) =>
          range === 0 ? this.keys.leasesChanged(answer, handler) : this.keys.configChanged(answer, handler),
        signal,
      }),
    );
  }

  close(): void {
    this.connection.close();
  }
}
