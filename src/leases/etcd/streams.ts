import type { EventEmitter } from 'node:events';
import type { Etcd3, IWatchResponse } from 'etcd3';
import { wallClockMs } from '../../process/clock.ts';
import { REQUEST_TIMEOUT_MS } from './client.ts';

/**
 * Ends a stream that did its work. The library takes a cancelled stream for a failure of the member, and closes all
 * other streams to it: it must not hear of this one.
 */
function endStream(stream: { cancel(): void }): void {
  const events = stream as unknown as EventEmitter;
  events.removeAllListeners('error');
  events.on('error', () => {});
  stream.cancel();
}

/** Renews an etcd lease. @returns seconds until it expires, 0 when it has already @throws what the library throws */
export async function keepLeaseAlive(client: Etcd3, etcdLease: string): Promise<number> {
  const stream = await client.leaseClient.leaseKeepAlive({ deadline: wallClockMs() + REQUEST_TIMEOUT_MS });
  return new Promise<number>((resolve, reject) => {
    stream.on('data', ({ TTL }) => {
      endStream(stream);
      resolve(Number(TTL));
    });
    stream.on('error', reject);
    stream.on('end', () => reject(new Error('the stream ended')));
    stream.write({ ID: etcdLease });
  });
}

/** Keys from `start` on and before `end`; without `end` the one key. */
export interface KeyRange {
  readonly start: Buffer;
  readonly end?: Buffer;
}

export interface KeyWatch {
  /** What is watched, each range for itself: a user of etcd may have rights to these and to nothing around them. */
  readonly ranges: readonly KeyRange[];
  /** The first revision that is reported. */
  readonly revision: bigint;
  /** All is watched; the member that serves it is at this revision. */
  readonly onCreated: (revision: bigint) => void;
  /** @param range its place in `ranges` */
  readonly onAnswer: (answer: IWatchResponse, range: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Reports changes until the signal is aborted.
 * @returns `compacted` when the revision is no longer kept
 * @throws what the library throws, when the stream breaks
 */
export async function watchKeys(client: Etcd3, watch: KeyWatch): Promise<'compacted' | 'stopped'> {
  const { ranges, revision, onCreated, onAnswer, signal } = watch;
  /** By place in `ranges`: etcd numbers its watches, and takes the requests in order. */
  const ids: string[] = [];
  const stream = await client.watchClient.watch();
  let timer: NodeJS.Timeout | undefined;
  let stop = (): void => {};
  return new Promise<'compacted' | 'stopped'>((resolve, reject) => {
    const end = (result: 'compacted' | 'stopped'): void => {
      endStream(stream);
      resolve(result);
    };
    stop = () => end('stopped');
    signal.addEventListener('abort', stop, { once: true });
    // A stream has no deadline: where packets vanish it would wait for as long as TCP does.
    timer = setTimeout(() => reject(new Error('no answer')), REQUEST_TIMEOUT_MS);
    stream.on('error', reject);
    stream.on('end', () => reject(new Error('etcd ended the watch')));
    const take = (answer: IWatchResponse): void => {
      if (answer.canceled) {
        if (BigInt(answer.compact_revision) > 0n) end('compacted');
        else reject(new Error(answer.cancel_reason || 'etcd cancelled the watch'));
      } else if (answer.created) {
        ids.push(answer.watch_id);
        if (ids.length < ranges.length) return;
        clearTimeout(timer);
        onCreated(BigInt(answer.header.revision));
      } else onAnswer(answer, ids.indexOf(answer.watch_id));
    };
    stream.on('data', (answer) => {
      try {
        take(answer);
      } catch (error) {
        reject(error); // nobody stands above this handler
      }
    });
    for (const { start: key, end } of ranges) {
      const range = end === undefined ? { key } : { key, range_end: end };
      stream.write({
        create_request: { ...range, start_revision: String(revision), progress_notify: true, fragment: true },
      });
    }
    if (signal.aborted) stop();
  }).finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    stream.cancel();
  });
}
