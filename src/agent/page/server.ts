import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import type { BindAddress } from '../../process/bind-address.ts';
import {
  Connections,
  type HttpServer,
  keepServer,
  listen,
  makeHttpServer,
  pathOf,
} from '../../process/http.ts';
import type { Log } from '../../process/log.ts';
import { type Asset, readAssets } from './assets.ts';
import { headers, isForeign, isOwnHost } from './guards.ts';
import { Tracing } from './tracing.ts';
import { Viewers } from './viewers.ts';
import { Watch } from './watch.ts';

export interface PageOptions {
  readonly address: BindAddress;
  /** Names by which people reach it, beside addresses, `localhost` and the node's own. */
  readonly hosts: readonly string[];
  /** Where agent and proxy answer whoever looks. */
  readonly cniSocket: string;
  readonly proxySocket: string;
  readonly log: Log;
}

/** Connections at a time: pages, each with its stream, and who loads one. */
const MOST_CONNECTIONS = 60;

interface Answer {
  readonly status: number;
  readonly type?: string;
  readonly body: string | Buffer;
}

function send(response: ServerResponse, { status, type = 'text/plain; charset=utf-8', body }: Answer): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { ...headers, 'content-type': type });
  response.end(body);
}

/** Nobody is told more about why than this. */
function refusal(request: IncomingMessage, path: string, names: readonly string[]): Answer | undefined {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { status: 405, body: 'this page only shows: GET\n' };
  if (!isOwnHost(request.headers.host, names))
    return {
      status: 421,
      body: 'this page is not known by that name: use an address, or start the agent with --page-host\n',
    };
  const site = request.headers['sec-fetch-site'];
  if (isForeign(Array.isArray(site) ? site[0] : site, path))
    return { status: 403, body: 'another site asks for this\n' };
  return undefined;
}

class Page {
  private readonly assets: ReadonlyMap<string, Asset>;
  private readonly names: readonly string[];
  private readonly viewers: Viewers;
  private readonly watch: Watch;
  private readonly tracing: Tracing;

  constructor({ hosts, cniSocket, proxySocket, log }: PageOptions) {
    const sockets = [`--socket=${cniSocket}`, `--proxy-socket=${proxySocket}`];
    this.assets = readAssets();
    this.names = [
      ...hosts,
      hostname(),
      ...(process.env.NODE_NAME === undefined ? [] : [process.env.NODE_NAME]),
    ];
    this.viewers = new Viewers({ log, came: () => this.watch.want(), allGone: () => this.watch.leave() });
    this.watch = new Watch({
      args: ['page-feed', ...sockets],
      log,
      tell: (text) => this.viewers.tell(text),
      again: (text) => this.viewers.tellNew(text),
    });
    this.tracing = new Tracing(sockets);
  }

  readonly listener: RequestListener = (request, response) => {
    const target = request.url ?? '/';
    const path = pathOf(target);
    const refused = refusal(request, path, this.names);
    const asset = this.assets.get(path);
    if (refused !== undefined) send(response, refused);
    else if (asset !== undefined) send(response, { status: 200, ...asset });
    else if (request.method === 'GET' && path === '/events') this.viewers.add(response, headers);
    else if (request.method === 'GET' && path === '/trace') this.trace(target, response);
    else send(response, { status: 404, body: 'not found\n' });
  };

  close(): void {
    this.viewers.close();
    this.watch.stop();
  }

  private trace(target: string, response: ServerResponse): void {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const query = /\?([^#]*)/.exec(target)?.[1] ?? '';
    this.tracing
      .trace(query, gone.signal)
      .then(({ status, reply }) =>
        send(response, { status, type: 'application/json', body: JSON.stringify(reply) }),
      )
      .catch(() => response.destroy());
  }
}

/**
 * Serves the page, which only shows, as soon as that is possible: a port that is taken keeps no pod from its network.
 * @returns closes it
 */
export function servePage(options: PageOptions): () => Promise<void> {
  const { address, log } = options;
  let page: Page | undefined;
  const start = async (): Promise<HttpServer> => {
    page ??= new Page(options);
    const server = makeHttpServer(page.listener, log, new Connections(MOST_CONNECTIONS));
    const listening = await listen(server, address.host, address.port);
    log.info({ host: address.host, port: listening.port }, 'serving the page');
    return listening;
  };
  const server = keepServer(start, 'the page', log);
  return async () => {
    page?.close();
    await server.close();
  };
}
