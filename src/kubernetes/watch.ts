import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { LogLimiter } from '../process/log.ts';
import { type KubeClient, namesOnly } from './client.ts';

export interface KubeObject {
  readonly metadata?: {
    readonly namespace?: string;
    readonly name?: string;
    readonly resourceVersion?: string;
  };
}

export interface KubeWatchOptions<T> {
  readonly client: KubeClient;
  /** For example `/api/v1/services`. */
  readonly path: string;
  /** Selectors. */
  readonly query?: Readonly<Record<string, string>>;
  readonly log: Log;
  /** Keeps what is needed of an object, so that the rest can be freed; undefined when it is not wanted. Must not throw. */
  readonly parse: (object: KubeObject) => T | undefined;
  /** All objects there are. */
  readonly onList: (values: T[]) => void;
  /** One object, `namespace/name`, that was added or changed; undefined when it is gone or not wanted any more. */
  readonly onChange: (key: string, value: T | undefined) => void;
  /** Why the resource cannot be followed now, at each failure; undefined when it is followed. */
  readonly onState?: (error: string | undefined) => void;
  /** First and longest wait after a failure, milliseconds. */
  readonly backoffMs?: { readonly first: number; readonly longest: number };
}

const PAGE_SIZE = 500;
const WATCH_SECONDS = 300;

interface ListAnswer {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly KubeObject[] | null;
}

interface WatchEvent {
  readonly type?: string;
  readonly object?: KubeObject & { readonly code?: number; readonly message?: string };
}

function expired(error: unknown): boolean {
  return isTwillError(error, 'conflict');
}

/** Resource versions are numbers that grow (KEP-5504); of any others nothing is said. */
function isBefore(version: string | undefined, other: string): boolean {
  return /^\d+$/.test(version ?? '') && /^\d+$/.test(other) && BigInt(version!) < BigInt(other);
}

/**
 * Lists a resource page by page, then watches it: resumes where it stopped after a broken connection, lists again only
 * when the server has forgotten that point (410) or is not as far yet, and waits longer after each failure.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
export class KubeWatch<T> {
  private readonly options: KubeWatchOptions<T>;
  private readonly limiter = new LogLimiter();
  private readonly abort = new AbortController();
  /** Ends the request or the wait under way. */
  private round = new AbortController();
  private done: Promise<void> = Promise.resolve();
  /** Where to go on watching; undefined when a list is needed. */
  private resourceVersion: string | undefined;
  /** Pages of a list were forgotten before they were asked for: the next list is one piece. */
  private unpaged = false;
  /** Failures since something last came of a watch. A list alone is not enough: what is forgotten at once costs most. */
  private failures = 0;

  constructor(options: KubeWatchOptions<T>) {
    this.options = options;
  }

  start(): void {
    this.done = this.run();
  }

  /** Watches over a new connection from now on: after a change of the node's address the old one is dead without a word. */
  reconnect(): void {
    this.round.abort();
  }

  async stop(): Promise<void> {
    this.abort.abort();
    await this.done;
  }

  private get stopped(): boolean {
    return this.abort.signal.aborted;
  }

  private async run(): Promise<void> {
    const { first, longest } = this.options.backoffMs ?? { first: 200, longest: 30_000 };
    while (!this.stopped) {
      const started = monotonicMs();
      this.round = new AbortController();
      const round = AbortSignal.any([this.abort.signal, this.round.signal]);
      try {
        if (this.resourceVersion !== undefined) await this.recall(this.resourceVersion, round);
        if (this.resourceVersion === undefined) await this.list(round);
        await this.watch(round);
        this.failures = 0;
        // A server that ends every watch at once must not be asked without pause.
        if (monotonicMs() - started < 1000) await this.pause(first, round);
      } catch (error) {
        if (this.stopped) return;
        if (round.aborted) continue;
        if (expired(error)) this.resourceVersion = undefined;
        if (monotonicMs() - started > longest) this.failures = 0;
        this.failures++;
        // Many proxies lose one server at the same moment: they must not come back at the same moment.
        this.options.onState?.(describeError(error));
        const delay = Math.min(longest, first * 2 ** (this.failures - 1)) * (0.5 + Math.random() / 2);
        this.report(error, Math.round(delay));
        await this.pause(delay, round);
      }
    }
  }

  private report(error: unknown, retryInMs: number): void {
    const { log, path } = this.options;
    const suppressed = this.limiter.allow(describeError(error));
    if (suppressed === undefined) return;
    const fields = { path, error: describeError(error), retryInMs, suppressed };
    if (expired(error)) log.info(fields, 'the watch is too far behind, listing again');
    else log.warn(fields, 'Kubernetes API failed, will retry');
  }

  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    await sleep(ms, undefined, { signal }).catch(() => {});
  }

  /**
   * A server whose etcd was restored from a backup has all that comes under versions that it had before: a watch from what
   * is still to come again is silent until then. So it is asked how far it is, by as little as it can answer.
   */
  private async recall(version: string, signal: AbortSignal): Promise<void> {
    const { client, path, query, log } = this.options;
    const answer = await client.getJson(path, { ...query, limit: '1' }, signal, namesOnly);
    const now = (answer as ListAnswer).metadata?.resourceVersion;
    if (!isBefore(now, version)) return;
    log.warn({ path, before: version, now }, 'the Kubernetes API knows less than it did, listing again');
    this.resourceVersion = undefined;
  }

  private async list(signal: AbortSignal): Promise<void> {
    const { client, path, query, parse } = this.options;
    const values: T[] = [];
    let version: string | undefined;
    let next: string | undefined;
    do {
      const page: Record<string, string> = { ...query };
      if (!this.unpaged) page.limit = String(PAGE_SIZE);
      if (next !== undefined) page.continue = next;
      const answer = (await client.getJson(path, page, signal).catch((error: unknown) => {
        this.unpaged = next !== undefined && expired(error);
        throw error;
      })) as ListAnswer;
      // Go writes an empty list as null, too.
      const items = answer.items ?? [];
      if (!Array.isArray(items) || answer.metadata?.resourceVersion === undefined) {
        throw new TwillError('unavailable', `the Kubernetes API's answer to ${path} is not a list`);
      }
      for (const item of items) {
        const value = parse(item);
        if (value !== undefined) values.push(value);
      }
      version = answer.metadata.resourceVersion;
      next = answer.metadata.continue || undefined;
    } while (next !== undefined);
    this.unpaged = false;
    this.options.onState?.(undefined);
    this.options.onList(values);
    this.resourceVersion = version;
  }

  private async watch(signal: AbortSignal): Promise<void> {
    const { client, path, query } = this.options;
    const parameters = {
      ...query,
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: this.resourceVersion!,
      timeoutSeconds: String(Math.round(WATCH_SECONDS * (1 + Math.random()))),
    };
    await client.lines(path, parameters, signal, (line) => {
      this.take(line);
      this.failures = 0;
      this.options.onState?.(undefined);
    });
  }

  private take(line: string): void {
    let event: WatchEvent;
    try {
      event = JSON.parse(line) as WatchEvent;
    } catch (cause) {
      throw new TwillError('unavailable', `a watch event of ${this.options.path} is not JSON`, cause);
    }
    const object = event.object;
    if (event.type === 'ERROR' || object === undefined) {
      const code = object?.code === 410 ? 'conflict' : 'unavailable';
      throw new TwillError(
        code,
        `the watch of ${this.options.path} failed: ${object?.message ?? 'no reason given'}`,
      );
    }
    if (event.type !== 'BOOKMARK') {
      const { parse, onChange } = this.options;
      const key = `${object.metadata?.namespace ?? ''}/${object.metadata?.name ?? ''}`;
      onChange(key, event.type === 'DELETED' ? undefined : parse(object));
    }
    if (object.metadata?.resourceVersion !== undefined)
      this.resourceVersion = object.metadata.resourceVersion;
  }
}
