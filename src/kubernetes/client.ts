import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import { describeError, TwillError } from '../model/error.ts';
import { oneLine } from '../model/text.ts';
import { monotonicMs } from '../process/clock.ts';
import { version } from '../process/version.ts';
import { type KubeConfigOptions, type LoadedKubeConfig, loadKubeConfig } from './config.ts';
import type { ApiServer } from './servers.ts';

/** A connection that says nothing for this long is taken for dead; bookmarks come about once a minute. */
const IDLE_MS = 5 * 60_000;
const CONNECT_MS = 30_000;
/** Where there is another server to try, one that drops packets must not be waited for so long. */
const CONNECT_OF_SEVERAL_MS = 3000;

function errorFor(status: number, path: string, body: string): TwillError {
  const message = /"message":"((?:[^"\\]|\\.)*)"/.exec(body)?.[1] ?? body.slice(0, 200);
  const code =
    status === 401 || status === 403
      ? 'permission'
      : status === 404
        ? 'not-found'
        : status === 410
          ? 'conflict'
          : 'unavailable';
  return new TwillError(code, `the Kubernetes API answered ${status} to ${path}: ${message}`);
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** No answer came: another server may give one. */
class ConnectionFailure extends TwillError {
  constructor(message: string, cause?: unknown) {
    super('unavailable', message, cause);
  }
}

async function unable(server: string, response: IncomingMessage): Promise<ConnectionFailure> {
  const body = await text(response).catch(() => '');
  return new ConnectionFailure(`${server} answered ${response.statusCode}: ${oneLine(body.slice(0, 200))}`);
}

/** Media types by which no more of each object comes than its metadata. */
export const namesOnly = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json';

/** What a server says, or what stands before it, that cannot serve now: its etcd is gone, say, or it starts. */
const cannotServe: ReadonlySet<number> = new Set([502, 503, 504]);

/** A token file may end with a newline, which a header must not have. */
function trimToken(options: RequestOptions): void {
  const headers = options.headers as Record<string, string>;
  if (typeof headers.Authorization === 'string') headers.Authorization = headers.Authorization.trim();
}

/** One request. */
interface Call {
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly patch?: string;
  readonly accept?: string | undefined;
}

/**
 * Reads from (and patches objects of) a Kubernetes API server over node's own HTTP client with the library's
 * credentials: service account tokens that rotate, kubeconfig certificates, exec plugins. Credentials are asked for anew
 * for every request.
 */
export class KubeClient {
  private readonly options: KubeConfigOptions;
  private loaded: LoadedKubeConfig;
  /** The server that answered last, or is asked first. */
  private current: ApiServer;
  private told: ApiServer | undefined;

  private constructor(options: KubeConfigOptions, loaded: LoadedKubeConfig) {
    this.options = options;
    this.loaded = loaded;
    this.current = loaded.servers[0]!;
  }

  /** The one that is asked. */
  get server(): string {
    return this.current.url;
  }

  /** All that may be asked. */
  get servers(): readonly string[] {
    return this.loaded.servers.map(({ url }) => url);
  }

  /** The one that is asked and who says that it is to be, for people. */
  get choice(): string {
    return `${this.server} (${this.current.why})`;
  }

  /** @throws TwillError `invalid` when there is no usable configuration */
  static async open(options: KubeConfigOptions): Promise<KubeClient> {
    return new KubeClient(options, await loadKubeConfig(options));
  }

  /** @param accept media types, JSON unless given @throws TwillError by status: `permission`, `not-found`, `conflict` (410, expired); `unavailable` otherwise */
  async getJson(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    accept?: string,
  ): Promise<unknown> {
    const body = await this.exchange({ path, query, signal, accept });
    try {
      return JSON.parse(body);
    } catch (cause) {
      throw new TwillError('unavailable', `the Kubernetes API's answer to ${path} is not JSON`, cause);
    }
  }

  /** A strategic merge patch. @returns the object as it is then @throws like {@link getJson} */
  async patchJson(path: string, patch: object, signal: AbortSignal): Promise<unknown> {
    return JSON.parse(await this.exchange({ path, query: {}, signal, patch: JSON.stringify(patch) }));
  }

  /** @returns the answer's body */
  private async exchange(call: Call): Promise<string> {
    const { patch } = call;
    const began = monotonicMs();
    const response = await this.open(call);
    const body = await text(response);
    this.options.onExchange?.({
      method: patch === undefined ? 'GET' : 'PATCH',
      host: new URL(this.server).host,
      seconds: (monotonicMs() - began) / 1000,
      bytesSent: Buffer.byteLength(patch ?? ''),
      bytesReceived: Buffer.byteLength(body),
    });
    return body;
  }

  /** Calls `take` with each line of the answer until the server ends it. @throws like {@link getJson} */
  async lines(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    take: (line: string) => void,
  ): Promise<void> {
    const response = await this.open({ path, query, signal });
    let rest: Buffer[] = [];
    try {
      for await (const data of response) {
        let chunk = data as Buffer;
        for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10)) {
          const line = Buffer.concat([...rest, chunk.subarray(0, end)]).toString();
          rest = [];
          chunk = chunk.subarray(end + 1);
          if (line !== '') take(line);
        }
        if (chunk.length > 0) rest.push(chunk);
      }
    } catch (cause) {
      if (cause instanceof TwillError) throw cause;
      throw new TwillError('unavailable', `the connection to ${this.server} broke`, cause);
    } finally {
      response.destroy();
    }
  }

  /** The answer once it has begun with a status below 300. */
  private async open(call: Call): Promise<IncomingMessage> {
    const { path, query, signal } = call;
    const rest = `${path}?${new URLSearchParams(query)}`;
    const { servers, problems } = this.loaded;
    const begin = Math.max(
      servers.findIndex(({ url }) => url === this.server),
      0,
    );
    const inTurn = [...servers.slice(begin), ...servers.slice(0, begin)];
    const failures: TwillError[] = [];
    for (const [index, server] of inTurn.entries()) {
      try {
        const response = await this.ask(new URL(`${server.url}${rest}`), call);
        if (index < inTurn.length - 1 && cannotServe.has(response.statusCode ?? 0))
          throw await unable(server.url, response);
        this.chosen(server, [...problems, ...failures.map(({ message }) => message)]);
        return await this.checked(response, path);
      } catch (error) {
        if (!(error instanceof ConnectionFailure) || signal.aborted) throw error;
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0]!;
    throw new TwillError('unavailable', failures.map(({ message }) => message).join('; '), failures[0]);
  }

  private chosen(server: ApiServer, passedOver: readonly string[]): void {
    this.current = server;
    if (this.told?.url === server.url) return;
    this.told = server;
    this.options.onServer?.({ ...server, passedOver });
  }

  /** The answer once it has begun, whatever its status. @throws ConnectionFailure when none does */
  private async ask(url: URL, { signal, patch, accept }: Call): Promise<IncomingMessage> {
    const { config, headers } = this.loaded;
    const options: RequestOptions = {
      method: patch === undefined ? 'GET' : 'PATCH',
      headers: {
        accept: accept ?? 'application/json',
        'user-agent': `twill/${version}`,
        ...headers,
        ...(patch === undefined ? {} : { 'content-type': 'application/strategic-merge-patch+json' }),
      },
      signal,
    };
    try {
      await config.applyToHTTPSOptions(options as Parameters<KubeConfig['applyToHTTPSOptions']>[0]);
    } catch (cause) {
      throw new TwillError('permission', 'cannot get credentials for the Kubernetes API', cause);
    }
    trimToken(options);
    // The library's agent is for the scheme of the first server that is verified.
    if (url.protocol === 'http:') delete options.agent;
    const { method = 'GET' } = options;
    const response = await this.send(url, options, patch).catch((error: unknown) => {
      this.options.onRequest?.({ method, host: url.host, code: '<error>' });
      throw error;
    });
    this.options.onRequest?.({ method, host: url.host, code: String(response.statusCode ?? 0) });
    return response;
  }

  private async checked(response: IncomingMessage, path: string): Promise<IncomingMessage> {
    const status = response.statusCode ?? 0;
    if (status < 300) return response;
    const body = await text(response);
    // A new token may have been written before the library looks again.
    if (status === 401) this.loaded = await loadKubeConfig(this.options);
    throw errorFor(status, path, body);
  }

  private send(url: URL, options: RequestOptions, body?: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options);
      request.setTimeout(CONNECT_MS, () => request.destroy(new Error('no answer')));
      request.on('socket', (socket) => {
        socket.setKeepAlive(true, 15_000);
        if (this.loaded.servers.length === 1 || !socket.connecting) return;
        const late = setTimeout(() => request.destroy(new Error('no connection')), CONNECT_OF_SEVERAL_MS);
        socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => clearTimeout(late));
        socket.once('close', () => clearTimeout(late));
      });
      request.on('response', (response) => {
        request.setTimeout(IDLE_MS, () => request.destroy(new Error('nothing came for too long')));
        resolve(response);
      });
      request.on('error', (cause) => {
        reject(new ConnectionFailure(`cannot reach ${url.origin} (${describeError(cause)})`, cause));
      });
      request.end(body);
    });
  }
}
