import { createHash } from 'node:crypto';
import type { IKeyValue, IWatchResponse } from 'etcd3';

/** One key below `…/subnets/`. */
export interface LeaseRecord {
  /** The key's last part; cut where no lease can have that name. */
  readonly name: string;
  /** Empty where it is longer than any lease's. */
  readonly value: string;
  /** Characters of a value that was not kept; undefined for every other. */
  readonly oversize?: number | undefined;
  /** Revision that made the key. */
  readonly created: number;
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

/** What was known of etcd when a watch ended. */
export interface Known {
  /** All up to here is known. */
  readonly revision: bigint;
  readonly config: string | undefined;
  /** How many keys there are. */
  readonly leases: number;
  /** The lease that was written last. */
  readonly newest: LeaseRecord | undefined;
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

/** Characters of a lease's value, and of the key's last part: several times what flannel writes for any backend. */
const LONGEST_VALUE = 8192;
const LONGEST_NAME = 100;
/** Of the network configuration. */
const LONGEST_CONFIG = 65_536;

/** The network configuration; of one that is too long, enough to be no JSON. */
export function configText(kv: IKeyValue): string {
  const text = kv.value.toString();
  return text.length > LONGEST_CONFIG ? text.slice(0, LONGEST_CONFIG) : text;
}

/** `[prefix, end)` selects every key that starts with `prefix`. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]! += 1;
  return end;
}

/** The library's type says it is a number; it is the number's name. */
const isDeletion = (type: unknown): boolean => String(type) === 'Delete';

/** Where flannel's schema has its keys. */
export class LeaseKeys {
  readonly config: string;
  /** All leases' keys begin so. */
  readonly subnets: string;

  /** @param prefix without trailing slash */
  constructor(prefix: string) {
    this.config = `${prefix}/config`;
    this.subnets = `${prefix}/subnets/`;
  }

  of(name: string): string {
    return this.subnets + name;
  }

  record(kv: IKeyValue): LeaseRecord {
    const value = kv.value.toString();
    const oversize = value.length > LONGEST_VALUE ? value.length : undefined;
    return {
      name: this.nameOf(kv.key),
      value: oversize === undefined ? value : '',
      ...(oversize === undefined ? {} : { oversize }),
      created: Number(kv.create_revision),
      revision: BigInt(kv.mod_revision),
      etcdLease: kv.lease,
    };
  }

  /** Names that no lease can have are kept apart by their digest: a key may have a million characters. */
  nameOf(key: Buffer): string {
    const name = key.toString('utf8', Buffer.byteLength(this.subnets));
    if (name.length <= LONGEST_NAME) return name;
    const digest = createHash('sha256').update(key).digest('hex').slice(0, 16);
    return `${name.slice(0, LONGEST_NAME)}… (${name.length} characters, SHA-256 ${digest}…)`;
  }

  /** Hands an answer of the watch of the configuration to the handler. */
  configChanged(answer: IWatchResponse, handler: WatchHandler): void {
    for (const { type, kv } of answer.events)
      handler.config(isDeletion(type) ? undefined : configText(kv), BigInt(kv.mod_revision));
  }

  /** Hands an answer of the watch of the leases to the handler. */
  leasesChanged(answer: IWatchResponse, handler: WatchHandler): void {
    const events = answer.events.map(({ type, kv }): LeaseEvent => {
      const record = this.record(kv);
      const { name, revision } = record;
      return isDeletion(type) ? { type: 'delete', name, revision } : { type: 'put', record };
    });
    // While a watch catches up, the header has the store's revision in each of several answers.
    const last = BigInt(answer.events.at(-1)?.kv.mod_revision ?? answer.header.revision);
    // Of an answer in parts the next one goes on with the same revision.
    const { fragment = false } = answer as { fragment?: boolean };
    handler.events(events, fragment ? last - 1n : last);
  }
}
