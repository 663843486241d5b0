import type { IKeyValue, IRangeResponse } from 'etcd3';
import { isTwillError } from '../../model/error.ts';
import type { EtcdConnection } from './connection.ts';
import { configText, type LeaseKeys, prefixEnd } from './records.ts';

/** Leases in one answer, unless such an answer is too big. */
const PAGE = 1000;
/** A page of fewer characters than this was small enough for the next one to be longer. */
const SMALL = 1024 * 1024;

/**
 * Reads all leases as of one revision, page by page, so that the answers of a big cluster need not all be in memory at
 * once. A page whose answer is too big is asked for again in halves; of a single lease that is too big for that, the key.
 */
export class LeasePages {
  /** The page that was read last. */
  kvs: readonly IKeyValue[] = [];
  private readonly connection: EtcdConnection;
  private readonly keys: LeaseKeys;
  private readonly end: Buffer;
  private revision = '0';
  private limit = PAGE;
  /** Where the next page begins; undefined when there is none. */
  private from: Buffer | undefined;

  constructor(connection: EtcdConnection, keys: LeaseKeys) {
    this.connection = connection;
    this.keys = keys;
    this.end = prefixEnd(keys.subnets);
    this.from = Buffer.from(keys.subnets);
  }

  /** Reads the configuration and the first page. @throws TwillError */
  async first(): Promise<{ config: string | undefined; revision: bigint }> {
    const answer = await this.shrinking((limit) => {
      const leases = { key: Buffer.from(this.keys.subnets), range_end: this.end, limit };
      return this.connection.call('list the leases', (client) =>
        client.kv.txn({
          success: [{ request_range: { key: Buffer.from(this.keys.config) } }, { request_range: leases }],
        }),
      );
    });
    if (answer === undefined) return this.firstKey();
    this.revision = answer.header.revision;
    const [config, leases] = answer.responses;
    this.took(leases!.response_range);
    const kv = config!.response_range.kvs[0];
    return { config: kv === undefined ? undefined : configText(kv), revision: BigInt(this.revision) };
  }

  /** The first lease alone is too big for an answer, or the configuration is. */
  private async firstKey(): Promise<{ config: string | undefined; revision: bigint }> {
    const key = Buffer.from(this.keys.config);
    const answer = await this.connection.call('read the network configuration', (client) =>
      client.kv.range({ key }),
    );
    this.revision = answer.header.revision;
    const [kv] = answer.kvs;
    await this.next();
    return { config: kv === undefined ? undefined : configText(kv), revision: BigInt(this.revision) };
  }

  /** Reads the next page. @returns false when there is none @throws TwillError */
  async next(): Promise<boolean> {
    const { from: key, end, revision } = this;
    if (key === undefined) return false;
    const range = { key, range_end: end, revision };
    const ask = (limit: number, keysOnly: boolean): Promise<IRangeResponse> =>
      this.connection.call('list the leases', (client) =>
        client.kv.range({ ...range, limit, keys_only: keysOnly }),
      );
    this.took((await this.shrinking((limit) => ask(limit, false))) ?? (await ask(1, true)));
    return true;
  }

  /** @returns undefined when not even one lease can be read */
  private async shrinking<T>(ask: (limit: number) => Promise<T>): Promise<T | undefined> {
    for (;;) {
      try {
        return await ask(this.limit);
      } catch (error) {
        if (!isTwillError(error, 'exhausted')) throw error;
        if (this.limit === 1) return undefined;
        this.limit = Math.ceil(this.limit / 2);
      }
    }
  }

  private took({ kvs, more }: IRangeResponse): void {
    this.kvs = kvs;
    const last = kvs.at(-1)?.key;
    this.from = more && last !== undefined ? Buffer.concat([last, Buffer.of(0)]) : undefined;
    const size = kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
    if (size < SMALL) this.limit = Math.min(PAGE, this.limit * 2);
  }
}
