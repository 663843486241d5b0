import type { RequestListener, Server } from 'node:http';
import { type Family, ipv6 } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { Connections, listenAt, makeHttpServer } from '../process/http.ts';
import type { Log } from '../process/log.ts';
import { isLinkLocal } from './plan/nodeport-addresses.ts';

interface Listener {
  readonly server: Server;
  timer?: NodeJS.Timeout;
}

interface HealthPort {
  readonly port: number;
  localEndpoints: number;
  /** By the address it listens on. */
  readonly listeners: Map<string, Listener>;
}

/** A port that somebody else holds may be free later, an address may not be usable yet. */
const RETRY_MS = 2000;

/** Every address of both families, where there are two. */
const everywhere = '';

/**
 * Addresses to listen on: an empty text for all of both families, `0.0.0.0` and `::` for all of one. Link-local ones are
 * left out, which mean nothing without an interface.
 */
export function listenHosts(
  families: readonly { readonly family: Family; readonly addresses: readonly string[] | undefined }[],
): string[] {
  if (families.every(({ addresses }) => addresses === undefined)) return [everywhere];
  return families.flatMap(({ family, addresses }) => {
    if (addresses === undefined) return family === ipv6 ? ['::'] : ['0.0.0.0'];
    return addresses.filter((address) => !isLinkLocal(address));
  });
}

/**
 * The servers behind `healthCheckNodePort`: they tell a load balancer whether this node has an endpoint of the Service.
 * Answers are kube-proxy's (pkg/proxy/healthcheck/service_health.go). Unlike there, an address that cannot be bound is
 * tried again and does not keep the others from being served.
 */
export class HealthPorts {
  private readonly ports = new Map<string, HealthPort>();
  private hosts: readonly string[] = [everywhere];
  /** Of all ports together: there may be hundreds. */
  private readonly connections = new Connections();
  private readonly healthy: () => boolean;
  private readonly log: Log;

  constructor(healthy: () => boolean, log: Log) {
    this.healthy = healthy;
    this.log = log;
  }

  /** @param hosts as {@link listenHosts} gives them; all addresses before the first call */
  listenOn(hosts: readonly string[]): void {
    this.hosts = hosts;
    for (const [service, entry] of this.ports) this.bind(service, entry);
  }

  /** @param service `namespace/name` @param port 0 when it has no such port (any more) */
  set(service: string, port: number, localEndpoints: number): void {
    const standing = this.ports.get(service);
    if (standing !== undefined && standing.port === port) {
      standing.localEndpoints = localEndpoints;
      return;
    }
    this.close(service);
    if (port === 0) return;
    const entry: HealthPort = { port, localEndpoints, listeners: new Map() };
    this.ports.set(service, entry);
    this.bind(service, entry);
  }

  stop(): void {
    for (const service of [...this.ports.keys()]) this.close(service);
  }

  /** Makes the entry listen on just the addresses that are wanted. */
  private bind(service: string, entry: HealthPort): void {
    for (const [host, listener] of entry.listeners) {
      if (this.hosts.includes(host)) continue;
      entry.listeners.delete(host);
      close(listener);
    }
    for (const host of this.hosts) {
      if (!entry.listeners.has(host)) entry.listeners.set(host, this.open(service, entry, host));
    }
  }

  private open(service: string, entry: HealthPort, host: string): Listener {
    const { port } = entry;
    const listener: Listener = {
      server: makeHttpServer(this.answer(service, entry), this.log, this.connections),
    };
    const listen = (): void => {
      listener.server.listen(
        host === everywhere ? listenAt(undefined, port) : { port, host, ipv6Only: host === '::' },
      );
    };
    let said = false;
    listener.server.on('error', (error) => {
      // About one connection, which could not be accepted: it goes on listening.
      if (listener.server.listening) return;
      const fields = { service, address: host || 'all', port, error: describeError(error) };
      if (!said) this.log.warn(fields, 'health check port cannot be served, trying again');
      said = true;
      listener.timer = setTimeout(listen, RETRY_MS);
    });
    listen();
    return listener;
  }

  private answer(service: string, entry: HealthPort): RequestListener {
    const [namespace, name] = service.split('/');
    return (_request, response) => {
      const { localEndpoints } = entry;
      const serviceProxyHealthy = this.healthy();
      response.writeHead(localEndpoints > 0 && serviceProxyHealthy ? 200 : 503, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': String(localEndpoints),
      });
      const body = { service: { namespace, name }, localEndpoints, serviceProxyHealthy };
      response.end(`${JSON.stringify(body)}\n`);
    };
  }

  private close(service: string): void {
    const entry = this.ports.get(service);
    if (entry === undefined) return;
    this.ports.delete(service);
    for (const listener of entry.listeners.values()) close(listener);
  }
}

function close({ server, timer }: Listener): void {
  clearTimeout(timer);
  server.removeAllListeners('error').on('error', () => {});
  server.close();
  server.closeAllConnections();
}
