import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { inNetns } from '../../src/kernel/netns.ts';
import { type PatchResult, patchNode } from './kube-patch.ts';

export interface ApiObject {
  readonly kind?: string;
  readonly metadata: {
    readonly namespace?: string;
    readonly name: string;
    readonly creationTimestamp?: string;
    resourceVersion?: string;
  };
}

const paths: Readonly<Record<string, string>> = {
  ConfigMap: '/api/v1/configmaps',
  Service: '/api/v1/services',
  EndpointSlice: '/apis/discovery.k8s.io/v1/endpointslices',
  Node: '/api/v1/nodes',
};

export interface Refusal {
  readonly code: number;
  readonly message: string;
}

/** Who may do what, where that matters. */
export interface ApiAccess {
  authorize(request: IncomingMessage, url: URL): Refusal | undefined;
  /** @param old the object as it is @param object as it would be */
  admit(request: IncomingMessage, url: URL, old: unknown, object: unknown): Refusal | undefined;
}

interface LoggedEvent {
  readonly version: number;
  readonly path: string;
  readonly name: string;
  readonly line: string;
}

/** An object of the core group in a namespace. */
const namespaced = /^\/api\/v1\/namespaces\/([^/]+)\/([^/]+)\/([^/]+)$/;

interface Watcher {
  readonly path: string;
  readonly response: ServerResponse;
  readonly url: URL;
}

/** By the one selector of fields that is asked with. */
function isSelected(name: string, url: URL): boolean {
  const [, wanted] = /^metadata\.name=(.*)$/.exec(url.searchParams.get('fieldSelector') ?? '') ?? [];
  return wanted === undefined || wanted === name;
}

/**
 * A small Kubernetes API server: lists in pages, watches with bookmarks, forgets history when told to (410), checks a
 * token. What it stores is what {@link KubeApi.put} was given.
 */
export class KubeApi {
  /** A request must carry this token; undefined for none. */
  token: string | undefined;
  /** Asked before anything is done; undefined: everybody may do everything. */
  access: ApiAccess | undefined;
  /** Every request so far, path and query. */
  readonly requests: string[] = [];
  /** Names and values of the last request's headers, as they came. */
  lastHeaders: readonly string[] = [];
  /** Answers 410 to whoever asks for a further page of a list. */
  forgetPages = false;
  /** Answers the next requests with this status instead. */
  failWith: number | undefined;
  private readonly objects = new Map<string, Map<string, ApiObject>>();
  private readonly server: Server;
  private readonly host: string;
  private readonly scheme: 'http' | 'https';
  private wantsCertificate = false;
  private history: LoggedEvent[] = [];
  private forgotten = 0;
  private version = 100;
  private watchers: Watcher[] = [];

  private constructor(host: string, tls: ServerOptions | undefined) {
    this.host = host;
    this.scheme = tls === undefined ? 'http' : 'https';
    const answer = (request: IncomingMessage, response: ServerResponse): void =>
      this.answer(request, response);
    this.server = tls === undefined ? createServer(answer) : createTlsServer(tls, answer);
    this.server.keepAliveTimeout = 1;
  }

  /** @param tls with `requestCert`, a request needs a certificate its `ca` has signed */
  static async start(port = 0, host = '127.0.0.1', tls?: ServerOptions): Promise<KubeApi> {
    const api = new KubeApi(host, tls);
    api.wantsCertificate = tls?.requestCert === true;
    await new Promise<void>((resolve) => api.server.listen(port, host, resolve));
    return api;
  }

  /** One of this process that listens on all addresses of a network namespace; its URL has `host`. */
  static async startInside(namespace: string, host: string, tls?: ServerOptions): Promise<KubeApi> {
    const api = new KubeApi(host, tls);
    const listening = once(api.server, 'listening');
    // Without an address to look up the socket is made at once, and stays in that namespace.
    inNetns(namespace, () => {
      api.server.listen(0);
    });
    await listening;
    return api;
  }

  get url(): string {
    return `${this.scheme}://${this.host}:${(this.server.address() as AddressInfo).port}`;
  }

  get watcherCount(): number {
    return this.watchers.length;
  }

  /** Creates or replaces an object, and tells the watchers. */
  put(object: ApiObject): void {
    const { path, key } = this.place(object);
    const all = this.collection(path);
    const type = all.has(key) ? 'MODIFIED' : 'ADDED';
    const { creationTimestamp = new Date().toISOString().replace(/\.\d+Z$/, 'Z') } =
      all.get(key)?.metadata ?? {};
    const resourceVersion = String(++this.version);
    const stored = { ...object, metadata: { ...object.metadata, creationTimestamp, resourceVersion } };
    all.set(key, stored);
    this.record(path, type, stored);
  }

  /** A Node as it is stored. */
  node(name: string): ApiObject {
    return this.collection(paths.Node!).get(`/${name}`)!;
  }

  delete(object: ApiObject): void {
    const { path, key } = this.place(object);
    const old = this.collection(path).get(key);
    if (old === undefined) return;
    this.collection(path).delete(key);
    this.record(path, 'DELETED', {
      ...old,
      metadata: { ...old.metadata, resourceVersion: String(++this.version) },
    });
  }

  /** Sends every watcher a bookmark with the newest version. */
  bookmark(): void {
    for (const watcher of this.watchers) {
      const metadata = { resourceVersion: String(this.version) };
      watcher.response.write(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata } })}\n`);
    }
  }

  /** Forgets all events so far: a watch from before answers 410. */
  compact(): void {
    this.forgotten = this.version;
    this.history = [];
  }

  /** @returns makes what there is now all that there is, under the version of now, as a backup of etcd that is restored */
  backUp(): () => void {
    const { version } = this;
    const objects = [...this.objects].map(([path, all]) => [path, new Map(all)] as const);
    return () => {
      this.version = version;
      this.history = this.history.filter((event) => event.version <= version);
      for (const [path, all] of this.objects) {
        all.clear();
        for (const [key, object] of objects.find(([one]) => one === path)?.[1] ?? []) all.set(key, object);
      }
    };
  }

  /** Breaks every connection without a word. */
  disconnect(): void {
    for (const watcher of this.watchers) watcher.response.destroy();
    this.watchers = [];
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private place(object: ApiObject): { path: string; key: string } {
    const path = paths[object.kind ?? ''];
    if (path === undefined) throw new Error(`no path for kind ${object.kind}`);
    return { path, key: `${object.metadata.namespace ?? ''}/${object.metadata.name}` };
  }

  private collection(path: string): Map<string, ApiObject> {
    let all = this.objects.get(path);
    if (all === undefined) {
      all = new Map();
      this.objects.set(path, all);
    }
    return all;
  }

  private record(path: string, type: string, object: ApiObject): void {
    const line = `${JSON.stringify({ type, object })}\n`;
    const { name } = object.metadata;
    this.history.push({ version: this.version, path, name, line });
    if (this.history.length > 20_000) {
      this.forgotten = this.history[9_999]!.version;
      this.history = this.history.slice(10_000);
    }
    for (const watcher of this.watchers)
      if (watcher.path === path && isSelected(name, watcher.url)) watcher.response.write(line);
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://api');
    this.requests.push(request.url ?? '/');
    this.lastHeaders = request.rawHeaders;
    const refusal = this.refusal(request, url);
    if (refusal !== undefined) {
      response.writeHead(refusal.code, { 'content-type': 'application/json' });
      const reason = refusal.code === 422 ? 'Invalid' : undefined;
      const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, ...refusal };
      response.end(JSON.stringify(status));
    } else if (request.method === 'PATCH') void this.patch(request, url, response);
    else if (url.pathname.startsWith(`${paths.Node}/`))
      this.get(paths.Node!, `/${url.pathname.slice(paths.Node!.length + 1)}`, response);
    else if (namespaced.test(url.pathname)) {
      const [, namespace, plural, name] = namespaced.exec(url.pathname)!;
      this.get(`/api/v1/${plural}`, `${namespace}/${name}`, response);
    } else if (url.searchParams.get('watch') === 'true') this.watch(url, response);
    else this.list(url, response);
  }

  private refusal(request: IncomingMessage, url: URL): Refusal | undefined {
    if (this.failWith !== undefined) return { code: this.failWith, message: 'told to fail' };
    if (this.wantsCertificate && !(request.socket as TLSSocket).authorized) {
      return { code: 401, message: 'no certificate of a client' };
    }
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      return { code: 401, message: 'Unauthorized' };
    }
    const refused = this.access?.authorize(request, url);
    if (refused !== undefined) return refused;
    if (this.forgetPages && url.searchParams.has('continue')) {
      return { code: 410, message: 'The provided continue parameter is too old' };
    }
    // As servers without streaming lists do: client-go then lists and watches.
    if (url.searchParams.has('sendInitialEvents')) {
      return { code: 422, message: 'sendInitialEvents is forbidden for watch' };
    }
    if (namespaced.test(url.pathname)) return undefined;
    return Object.values(paths).some((path) => url.pathname === path || url.pathname.startsWith(`${path}/`))
      ? undefined
      : { code: 404, message: 'no such resource' };
  }

  private async patch(request: IncomingMessage, url: URL, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const [name = '', part] = url.pathname.slice(paths.Node!.length + 1).split('/');
    const old = this.collection(paths.Node!).get(`/${name}`);
    const type = request.headers['content-type'];
    const result: PatchResult =
      old === undefined || (part !== undefined && part !== 'status')
        ? { code: 404, reason: 'NotFound', message: `nodes "${name}" not found` }
        : patchNode({ ...old }, Buffer.concat(chunks).toString(), type, part === 'status');
    const refusal =
      'code' in result ? result : this.access?.admit(request, url, structuredClone(old), result.object);
    response.writeHead(refusal?.code ?? 200, { 'content-type': 'application/json' });
    const object = 'object' in result && refusal === undefined ? result.object : undefined;
    if (object !== undefined) this.put({ kind: 'Node', ...object } as ApiObject);
    const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure' };
    response.end(JSON.stringify(object ?? { ...status, ...refusal }));
  }

  private get(path: string, key: string, response: ServerResponse): void {
    const object = this.collection(path).get(key);
    response.writeHead(object === undefined ? 404 : 200, { 'content-type': 'application/json' });
    const message = `${key} not found`;
    response.end(JSON.stringify(object ?? { kind: 'Status', apiVersion: 'v1', code: 404, message }));
  }

  private list(url: URL, response: ServerResponse): void {
    const limit = Number(url.searchParams.get('limit') ?? 0) || Number.POSITIVE_INFINITY;
    const from = Number(url.searchParams.get('continue') ?? 0);
    const all = [...this.collection(url.pathname).values()].filter(({ metadata: { name } }) =>
      isSelected(name, url),
    );
    const items = all.slice(from, from + limit);
    const metadata: Record<string, unknown> = { resourceVersion: String(this.version) };
    if (from + items.length < all.length) metadata.continue = String(from + items.length);
    response.writeHead(200, { 'content-type': 'application/json' });
    const kind = `${Object.keys(paths).find((key) => paths[key] === url.pathname)}List`;
    const apiVersion = url.pathname.replace(/^\/apis?\/(.*)\/.*$/, '$1');
    // As Go writes a list that nothing was put into.
    response.end(JSON.stringify({ kind, apiVersion, metadata, items: items.length > 0 ? items : null }));
  }

  private watch(url: URL, response: ServerResponse): void {
    const since = Number(url.searchParams.get('resourceVersion') ?? 0);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (since < this.forgotten) {
      const object = { kind: 'Status', code: 410, message: 'too old resource version', metadata: {} };
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    for (const event of this.history) {
      if (event.version > since && event.path === url.pathname && isSelected(event.name, url))
        response.write(event.line);
    }
    const watcher = { path: url.pathname, response, url };
    this.watchers.push(watcher);
    response.on('close', () => {
      this.watchers = this.watchers.filter((other) => other !== watcher);
    });
  }
}
