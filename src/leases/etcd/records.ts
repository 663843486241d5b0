import type { IKeyValue, IWatchResponse } from 'etcd3';

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
    return {
      name: kv.key.toString('utf8', Buffer.byteLength(this.subnets)),
      value: kv.value.toString(),
      revision: BigInt(kv.mod_revision),
      etcdLease: kv.lease,
    };
  }

  /** Hands an answer of the watch of the configuration to the handler. */
  configChanged(answer: IWatchResponse, handler: WatchHandler): void {
    for (const { type, kv } of answer.events)
      handler.config(isDeletion(type) ? undefined : kv.value.toString(), BigInt(kv.mod_revision));
  }

  /** Hands an answer of the watch of the leases to the handler. */
  leasesChanged(answer: IWatchResponse, handler: WatchHandler): void {
    const events = answer.events.map(({ type, kv }): LeaseEvent => {
      const record = this.record(kv);
      const { name, revision } = record;
      return isDeletion(type) ? { type: 'delete', name, revision } : { type: 'put', record };
    });
    // While a watch catches up, the header has the store's revision in each of several answers.
    const last = answer.events.at(-1)?.kv.mod_revision;
    handler.events(events, BigInt(last ?? answer.header.revision));
  }
}
