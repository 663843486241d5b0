import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { TwillError } from '../model/error.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/** Path to answer; the function is called per request and must not throw for ordinary states. */
export type Routes = Readonly<Record<string, () => HttpAnswer | Promise<HttpAnswer>>>;

export interface HttpServer {
  /** The port in use, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

function send(response: ServerResponse, answer: HttpAnswer): void {
  response.writeHead(answer.status, { 'content-type': answer.type ?? 'text/plain; charset=utf-8' });
  response.end(answer.body);
}

/**
 * Serves GET requests for health and metrics.
 * @throws TwillError `conflict` when the address is in use, naming it
 */
export async function startHttp(host: string, port: number, routes: Routes): Promise<HttpServer> {
  const server: Server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const route = request.method === 'GET' || request.method === 'HEAD' ? routes[path] : undefined;
    if (route === undefined) return send(response, { status: 404, body: 'not found\n' });
    Promise.resolve()
      .then(route)
      .then((answer) => send(response, answer))
      .catch((error: unknown) => send(response, { status: 500, body: `${String(error)}\n` }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const code = cause.code === 'EADDRINUSE' ? 'conflict' : 'unavailable';
      reject(new TwillError(code, `cannot listen on ${host}:${port}`, cause));
    });
    server.listen(port, host, resolve);
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

/** Splits `host:port`, `[v6]:port`, `:port` or a bare port. @throws TwillError `invalid` */
export function parseBindAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$|^(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? match?.[4]);
  if (match === null || port > 65535)
    throw new TwillError('invalid', `'${text}' is not an address of the form IP:PORT`);
  return { host: match[1] ?? (match[2] || '0.0.0.0'), port };
}
