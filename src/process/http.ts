import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { hasIpv6 } from '../kernel/ipv6.ts';
import { describeError, TwillError } from '../model/error.ts';
import { type Log, LogLimiter } from './log.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/** What of a request an answer may depend on. */
export interface HttpRequest {
  /** Media types that are asked for; empty for any. */
  readonly accept: string;
}

/** Path to answer; the function is called per request. What it throws is answered with status 500. */
export type Routes = Readonly<Record<string, (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>>>;

export interface HttpServer {
  /** The port in use, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/** Connections at a time: each holds a descriptor, which the rest of the process needs. */
const MAX_CONNECTIONS = 100;
/** Whoever asks for health or metrics has said so within a few packets. */
const HEADERS_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 10_000;
const CHECK_MS = 1000;
/** A reader that takes nothing for so long holds an answer in memory. */
const IDLE_TIMEOUT_MS = 30_000;
/**
 * Who asks each few seconds, or once a minute, may do so over one connection: closed at the wrong moment it costs an answer,
 * which a load balancer takes for a sick node. There are few of them, and who asks anew comes first.
 */
const KEEP_ALIVE_MS = 75_000;

/**
 * What `listen` is told; without a host Node listens on `::`, and on `0.0.0.0` where that is refused.
 * @param host undefined for every address of the families that there are
 */
export function listenAt(host: string | undefined, port: number): { port: number; host?: string } {
  if (host !== undefined) return { port, host };
  return hasIpv6() ? { port } : { port, host: '0.0.0.0' };
}

/** The open connections of one server, or of several that share a bound. */
export class Connections {
  /** In the order in which they came. */
  private readonly open = new Set<Socket>();
  private readonly busy = new Set<Socket>();
  private readonly most: number;

  constructor(most = MAX_CONNECTIONS) {
    this.most = most;
  }

  /**
   * Who asks anew comes first: strangers who only hold connections must not keep a probe from its answer. So the oldest
   * goes, of those without a request under way if there are any.
   */
  add(socket: Socket): void {
    socket.on('error', () => {}); // the other side may go away at any moment; 'close' follows
    socket.once('close', () => this.open.delete(socket));
    this.open.add(socket);
    if (this.open.size <= this.most) return;
    const oldest = [...this.open].find((one) => !this.busy.has(one)) ?? [...this.open][0];
    oldest?.destroy();
  }

  answering(socket: Socket, response: ServerResponse): void {
    this.busy.add(socket);
    response.once('close', () => this.busy.delete(socket));
  }
}

/**
 * A server that strangers may talk to: connections are few and short, and nothing that a client sends, and no error of
 * the listener, ends more than its own connection. It does not listen yet.
 */
export function makeHttpServer(
  listener: RequestListener,
  log: Log,
  connections: Connections = new Connections(),
): Server {
  const limiter = new LogLimiter();
  const settings = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_MS,
  };
  const server = createServer(settings, (request, response) => {
    response.on('error', () => {});
    connections.answering(request.socket, response);
    // What comes beyond a request without a body is not read.
    if (request.method !== 'GET' && request.method !== 'HEAD') response.setHeader('connection', 'close');
    try {
      listener(request, response);
    } catch (error) {
      if (limiter.allow('listener') !== undefined)
        log.error({ error: describeError(error) }, 'a request could not be answered');
      response.destroy();
    }
  });
  server.timeout = IDLE_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.on('connection', (socket) => connections.add(socket));
  return server;
}

/**
 * The path of a request target: what comes before `?`, without scheme and host where a proxy has sent those
 * (RFC 9112, section 3.2.2). No URL parser: that throws for what is no URL, and a path is all there is to know.
 */
export function pathOf(target: string): string {
  const [, path = ''] = /^(?:[a-z][a-z0-9+.-]*:\/\/[^/?#]*)?([^?#]*)/i.exec(target) ?? [];
  return path === '' ? '/' : path;
}

function send(response: ServerResponse, answer: HttpAnswer): void {
  // The connection may have been closed meanwhile.
  if (response.destroyed || response.headersSent) return;
  response.writeHead(answer.status, {
    'content-type': answer.type ?? 'text/plain; charset=utf-8',
    // No browser is to make a page of it.
    'x-content-type-options': 'nosniff',
  });
  response.end(answer.body);
}

function answerFrom(routes: Routes, log: Log): RequestListener {
  const byPath = new Map(Object.entries(routes));
  const limiter = new LogLimiter();
  return (request, response) => {
    const path = pathOf(request.url ?? '/');
    // Whatever the method is, as Go's programs answer: some who ask for health say POST.
    const route = byPath.get(path);
    if (route === undefined) return send(response, { status: 404, body: 'not found\n' });
    Promise.resolve()
      .then(() => route({ accept: request.headers.accept ?? '' }))
      .catch((error: unknown): HttpAnswer => {
        if (limiter.allow(path) !== undefined)
          log.error({ path, error: describeError(error) }, 'a request could not be answered');
        return { status: 500, body: 'internal error\n' };
      })
      .then((answer) => send(response, answer))
      .catch(() => response.destroy());
  };
}

/**
 * Has a server that strangers may talk to listen.
 * @param host undefined for every address of both families
 * @throws TwillError `conflict` when the address is in use, naming it
 */
export async function listen(server: Server, host: string | undefined, port: number): Promise<HttpServer> {
  await new Promise<void>((resolve, reject) => {
    const refused = (cause: NodeJS.ErrnoException): void => {
      const code = cause.code === 'EADDRINUSE' ? 'conflict' : 'unavailable';
      reject(new TwillError(code, `cannot listen on ${host ?? ''}:${port}`, cause));
    };
    server.once('error', refused);
    server.listen(listenAt(host, port), () => {
      server.off('error', refused);
      // An error of one connection, which could not be accepted: the server goes on.
      server.on('error', () => {});
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Serves health and metrics, as {@link listen} does. */
export function startHttp(
  host: string | undefined,
  port: number,
  routes: Routes,
  log: Log,
): Promise<HttpServer> {
  return listen(makeHttpServer(answerFrom(routes, log), log), host, port);
}

/** How long a server that could not be opened waits for its next attempt: as long as kube-proxy's. */
const RETRY_MS = 5000;

/** A server that is wanted while it cannot be had: another process may hold its port for now. */
export interface WantedServer {
  /** Rejects at the first failure; never resolves. */
  readonly refused: Promise<never>;
  close(): Promise<void>;
}

/**
 * Serves as soon as that is possible.
 * @param start opens it, and is called again where it fails
 * @param what completes the sentence "… cannot be served"
 */
export function keepServer(start: () => Promise<HttpServer>, what: string, log: Log): WantedServer {
  const limiter = new LogLimiter();
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let opening: Promise<HttpServer | undefined>;
  let refuse = (_error: unknown): void => {};
  const refused = new Promise<never>((_, reject) => {
    refuse = reject;
  });
  refused.catch(() => {}); // who does not ask does not mind
  const open = (): void => {
    opening = start().catch((error: unknown) => {
      refuse(error);
      const reason = describeError(error);
      if (!closed && limiter.allow(reason) !== undefined)
        log.error({ error: reason, retryInMs: RETRY_MS }, `${what} cannot be served, will retry`);
      if (!closed) timer = setTimeout(open, RETRY_MS);
      return undefined;
    });
  };
  open();
  return {
    refused,
    async close() {
      closed = true;
      clearTimeout(timer);
      await (await opening)?.close();
    },
  };
}

/** Serves as {@link startHttp} does, as soon as that is possible. */
export function keepHttp(host: string | undefined, port: number, routes: Routes, log: Log): WantedServer {
  const start = async (): Promise<HttpServer> => {
    const server = await startHttp(host, port, routes, log);
    log.info({ host, port: server.port, paths: Object.keys(routes) }, 'serving health and metrics');
    return server;
  };
  return keepServer(start, 'health or metrics', log);
}
