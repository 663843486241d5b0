import type { EventEmitter } from 'node:events';
import type { Etcd3, IWatchResponse } from 'etcd3';
import { REQUEST_TIMEOUT_MS } from './etcd-client.ts';

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
  const stream = await client.leaseClient.leaseKeepAlive({ deadline: Date.now() + REQUEST_TIMEOUT_MS });
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

export interface KeyWatch {
  /** Keys below this one are watched, `PREFIX/…`. */
  readonly prefix: string;
  /** The first revision that is reported. */
  readonly revision: bigint;
  /** The watch stands; the member that serves it is at this revision. */
  readonly onCreated: (revision: bigint) => void;
  readonly onAnswer: (answer: IWatchResponse) => void;
  readonly signal: AbortSignal;
}

/**
 * Reports changes until the signal is aborted.
 * @returns `compacted` when the revision is no longer kept
 * @throws what the library throws, when the stream breaks
 */
export async function watchKeys(client: Etcd3, watch: KeyWatch): Promise<'compacted' | 'stopped'> {
  const { prefix, revision, onCreated, onAnswer, signal } = watch;
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
    stream.on('data', (answer) => {
      clearTimeout(timer);
      if (answer.canceled) {
        if (BigInt(answer.compact_revision) > 0n) end('compacted');
        else reject(new Error(answer.cancel_reason || 'etcd cancelled the watch'));
      } else if (answer.created) onCreated(BigInt(answer.header.revision));
      else onAnswer(answer);
    });
    stream.write({
      create_request: {
        key: Buffer.from(`${prefix}/`),
        range_end: Buffer.from(`${prefix}0`),
        start_revision: String(revision),
        progress_notify: true,
      },
    });
    if (signal.aborted) stop();
  }).finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    stream.cancel();
  });
}
