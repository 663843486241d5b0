import type { ICompare, IRangeRequest } from 'etcd3';
import { isTwillError } from '../../model/error.ts';
import { noIpv4Subnet } from '../plan/lease.ts';
import type { EtcdOptions } from './client.ts';
import { EtcdConnection } from './connection.ts';
import { LeasePages } from './pages.ts';
import {
  configText,
  type Known,
  LeaseKeys,
  type LeaseListing,
  type LeaseRecord,
  prefixEnd,
  type WatchHandler,
} from './records.ts';
import { keepLeaseAlive, watchKeys } from './streams.ts';

/** Seconds a lease lives without renewal; flannel's value. */
const LEASE_TTL_SECONDS = 24 * 60 * 60;

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
    const pages = new LeasePages(this.connection, this.keys);
    const { config, revision } = await pages.first();
    for (;;) {
      const { kvs } = pages;
      // Etcd reads the next page while we read this one.
      const next = pages.next();
      next.catch(() => {}); // reported below, unless `onRecord` throws first
      for (const kv of kvs) onRecord(this.keys.record(kv), revision);
      if (!(await next)) return { config, revision };
    }
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
  private noneWithIpv4(name: string, except?: string): ICompare[] {
    const [ipv4] = name.split('&') as [string];
    if (ipv4 === noIpv4Subnet) return [];
    const start = Buffer.from(this.keyOf(ipv4));
    const end = prefixEnd(this.keyOf(ipv4));
    const ranges: [Buffer, Buffer][] = [[start, end]];
    if (except?.startsWith(ipv4)) {
      const key = Buffer.from(this.keyOf(except));
      ranges.splice(0, 1, [start, key], [Buffer.concat([key, Buffer.of(0)]), end]);
    }
    return ranges
      .filter(([from, to]) => from.compare(to) < 0)
      .map(([key, range_end]) => {
        // The library's types lack the end of a range, its protocol definition has it.
        const range = { key, range_end } as ICompare;
        return { ...range, target: 'Create', result: 'Equal', create_revision: '0' };
      });
  }

  /** Puts the key if its revision is still `expected` (undefined: absent) and `further` holds. @returns undefined when not */
  private async putIf(
    name: string,
    value: string,
    expected: Pick<LeaseRecord, 'created' | 'revision'> | undefined,
    etcdLease: string,
    further: readonly ICompare[] = [],
  ): Promise<LeaseRecord | undefined> {
    const key = Buffer.from(this.keyOf(name));
    const answer = await this.connection.call(`write ${this.keyOf(name)}`, (client) =>
      client.kv.txn({
        compare: [
          { key, target: 'Mod', result: 'Equal', mod_revision: String(expected?.revision ?? 0) },
          ...further,
        ],
        success: [{ request_put: { key, value: Buffer.from(value), lease: etcdLease } }],
      }),
    );
    if (!answer.succeeded) return undefined;
    const revision = BigInt(answer.header.revision);
    return { name, value, created: expected?.created ?? Number(revision), revision, etcdLease };
  }

  /** Writes with a new etcd lease, which ends at once where nothing was written on it. */
  private async onNewLease<T>(write: (etcdLease: string) => Promise<T>): Promise<T> {
    const etcdLease = await this.grant();
    let written: T | undefined;
    try {
      written = await write(etcdLease);
      return written;
    } finally {
      if (written === undefined) await this.revoke(etcdLease);
    }
  }

  private putWithNewLease(
    name: string,
    value: string,
    expected: LeaseRecord | undefined,
    further: readonly ICompare[] = [],
  ): Promise<LeaseRecord | undefined> {
    return this.onNewLease((etcdLease) => this.putIf(name, value, expected, etcdLease, further));
  }

  /**
   * Creates the key on a new etcd lease. Two requests.
   * @param sharing another key may have the same IPv4 subnet
   * @returns undefined when somebody else has the key, or the IPv4 subnet
   */
  create(name: string, value: string, sharing = false): Promise<LeaseRecord | undefined> {
    return this.putWithNewLease(name, value, undefined, sharing ? [] : this.noneWithIpv4(name));
  }

  /**
   * Overwrites a key that is as we know it. A reservation stays one; otherwise the key's etcd lease is kept while it
   * lives, and is replaced by a new one.
   * @returns undefined when somebody else changed the key meanwhile
   */
  async update(known: LeaseRecord, value: string): Promise<LeaseRecord | undefined> {
    const kept = known.etcdLease === '0' || (await this.keepAlive(known.etcdLease)) > 0;
    if (!kept) return this.putWithNewLease(known.name, value, known);
    if (known.value === value) return known;
    return this.putIf(known.name, value, known, known.etcdLease);
  }

  /**
   * Puts our key whatever stands in its place, on our own etcd lease where that lives: on another's, or on none, the key
   * would not live and die with us.
   * @param known the key as we wrote it last
   * @param there false where the key is gone: a reservation that was taken away comes back as a lease
   */
  async retake({ name, etcdLease }: LeaseRecord, value: string, there: boolean): Promise<LeaseRecord> {
    const lives = etcdLease === '0' ? there : (await this.keepAlive(etcdLease)) > 0;
    if (lives) return this.putOver(name, value, etcdLease);
    return this.onNewLease((granted) => this.putOver(name, value, granted));
  }

  private async putOver(name: string, value: string, lease: string): Promise<LeaseRecord> {
    const key = Buffer.from(this.keyOf(name));
    const answer = await this.connection.call(`write ${this.keyOf(name)}`, (client) =>
      client.kv.txn({
        success: [
          { request_put: { key, value: Buffer.from(value), lease } },
          // It sees what was put, and says which revision made the key.
          { request_range: { key } },
        ],
      }),
    );
    return this.keys.record(answer.responses[1]!.response_range.kvs[0]!);
  }

  /**
   * Puts a key of another name in the place of one that is as we know it, in one step and on the same etcd lease.
   * @returns undefined when somebody else has the key or the IPv4 subnet, or changed the known one
   */
  async move(known: LeaseRecord, name: string, value: string): Promise<LeaseRecord | undefined> {
    const { etcdLease } = known;
    if ((await this.keepAlive(etcdLease)) === 0) return undefined;
    const [old, key] = [known.name, name].map((each) => Buffer.from(this.keyOf(each))) as [Buffer, Buffer];
    const answer = await this.connection.call(`write ${this.keyOf(name)}`, (client) =>
      client.kv.txn({
        compare: [
          { key: old, target: 'Mod', result: 'Equal', mod_revision: String(known.revision) },
          { key, target: 'Create', result: 'Equal', create_revision: '0' },
          ...this.noneWithIpv4(name, known.name),
        ],
        success: [
          { request_delete_range: { key: old } },
          { request_put: { key, value: Buffer.from(value), lease: etcdLease } },
        ],
      }),
    );
    if (!answer.succeeded) return undefined;
    const revision = BigInt(answer.header.revision);
    return { name, value, created: Number(revision), revision, etcdLease };
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
   * False where etcd does not know what it knew: restored from a backup it counts on from there, and a watch that goes on
   * would miss what was undone, and what has come in its place. One request, whose cost does not grow with the leases' values.
   */
  async remembers({ revision, config, leases, newest }: Known): Promise<boolean> {
    const at = newest !== undefined && newest.revision > revision ? newest.revision : revision;
    const ofThen = (key: string): { key: Buffer; revision: string } => ({
      key: Buffer.from(key),
      revision: String(at),
    });
    const all = { ...ofThen(this.keys.subnets), range_end: prefixEnd(this.keys.subnets), count_only: true };
    const asked: IRangeRequest[] = [ofThen(this.keys.config), all];
    if (newest !== undefined) asked.push({ ...ofThen(this.keyOf(newest.name)), keys_only: true });
    const answers = await this.connection
      .call('resume the watch of the leases', (client) =>
        client.kv.txn({ success: asked.map((range) => ({ request_range: range })) }),
      )
      .catch((error: unknown) => {
        if (isTwillError(error, 'not-found')) return undefined;
        throw error;
      });
    if (answers === undefined) return false;
    const [configThen, count, last] = answers.responses.map(({ response_range }) => response_range);
    const [kv] = configThen!.kvs;
    return (
      (kv === undefined ? undefined : configText(kv)) === config &&
      Number(count!.count) === leases &&
      (newest === undefined || last!.kvs[0]?.mod_revision === String(newest.revision))
    );
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
