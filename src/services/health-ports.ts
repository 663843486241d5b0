import type { RequestListener, Server } from 'node:http';
import { type Family, ipv4, ipv6, isLinkLocal, parseAddress } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { descriptorLimit } from '../process/descriptors.ts';
import { Connections, listenAt, makeHttpServer } from '../process/http.ts';
import type { Log } from '../process/log.ts';

interface Listener {
  readonly server: Server;
  timer?: NodeJS.Timeout;
}

interface HealthPort {
  readonly port: number;
  counts: LocalCounts;
  /** By the address it listens on. */
  readonly listeners: Map<string, Listener>;
}

/** How many endpoints of a Service are here, for each family that it has. */
export type LocalCounts = ReadonlyMap<Family, number>;

/** The health check port of a Service. */
export interface WantedPort {
  /** `namespace/name` */
  readonly service: string;
  /** 0 when it has none (any more). */
  readonly port: number;
  readonly counts: LocalCounts;
}

/**
 * A port that another Service of ours has just given up is free in a moment; one that somebody else holds may be later,
 * and an address that is not usable yet, too.
 */
const FIRST_RETRY_MS = 20;
const LONGEST_RETRY_MS = 2000;
/** What takes this long is told. */
const TOLD_MS = 300;

/** Every address of both families, where there are two. */
const everywhere = '';

/**
 * Addresses to listen on: an empty text for all of both families, `0.0.0.0` and `::` for all of one. Link-local ones are
 * left out, which mean nothing without an interface.
 */
export function listenHosts(
  families: readonly { readonly family: Family; readonly addresses: readonly string[] | undefined }[],
): string[] {
  if (families.length > 1 && families.every(({ addresses }) => addresses === undefined)) return [everywhere];
  return families.flatMap(({ family, addresses }) => {
    if (addresses === undefined) return family === ipv6 ? ['::'] : ['0.0.0.0'];
    return addresses.filter((address) => !isLinkLocal(parseAddress(address)));
  });
}

/** Where a Service is listened for that may not have both families. */
function hostsOf(host: string, counts: LocalCounts): readonly string[] {
  if (host !== everywhere) return counts.has(familyOf(host)) ? [host] : [];
  if (counts.has(ipv4) && counts.has(ipv6)) return [host];
  return [...counts.keys()].map((family) => (family === ipv6 ? '::' : '0.0.0.0'));
}

/** The family of a socket's address; with a socket for both an IPv4 address is written as an IPv6 one. */
function familyOf(address = ''): Family {
  return address.includes('.') ? ipv4 : ipv6;
}

/**
 * The servers behind `healthCheckNodePort`: they tell a load balancer whether this node has an endpoint of the Service.
 * Answers are kube-proxy's (pkg/proxy/healthcheck/service_health.go), for the family that is asked in. Unlike there, an address that cannot be bound is
 * tried again and does not keep the others from being served.
 */
export class HealthPorts {
  private readonly ports = new Map<string, HealthPort>();
  private hosts: readonly string[] = [everywhere];
  /** Of all ports together: there may be hundreds, all asked at once by several load balancers. */
  private readonly connections = new Connections(mostConnections());
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

  /** Takes what has changed. Ports are given up first: another Service may want them. */
  update(wanted: readonly WantedPort[]): void {
    for (const { service, port } of wanted) if (this.ports.get(service)?.port !== port) this.close(service);
    for (const { service, port, counts } of wanted) {
      if (port === 0) continue;
      const entry = this.ports.get(service) ?? { port, counts, listeners: new Map() };
      this.ports.set(service, entry);
      entry.counts = counts;
      this.bind(service, entry);
    }
  }

  stop(): void {
    for (const service of [...this.ports.keys()]) this.close(service);
  }

  /** Makes the entry listen on just the addresses that are wanted. */
  private bind(service: string, entry: HealthPort): void {
    const hosts = this.hosts.flatMap((host) => hostsOf(host, entry.counts));
    for (const [host, listener] of entry.listeners) {
      if (hosts.includes(host)) continue;
      entry.listeners.delete(host);
      close(listener);
    }
    for (const host of hosts) {
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
    let waited = 0;
    listener.server.on('error', (error) => {
      // About one connection, which could not be accepted: it goes on listening.
      if (listener.server.listening) return;
      const fields = { service, address: host || 'all', port, error: describeError(error) };
      const wait = Math.min(LONGEST_RETRY_MS, waited + FIRST_RETRY_MS);
      if (waited < TOLD_MS && waited + wait >= TOLD_MS)
        this.log.warn(fields, 'health check port cannot be served, trying again');
      waited += wait;
      listener.timer = setTimeout(listen, wait);
    });
    listen();
    return listener;
  }

  private answer(service: string, entry: HealthPort): RequestListener {
    const [namespace, name] = service.split('/');
    return (request, response) => {
      const localEndpoints = entry.counts.get(familyOf(request.socket.localAddress)) ?? 0;
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

const LONGEST_QUEUE = 2048;

/** No more than half of the descriptors that the process may have: the rules need some, too. */
function mostConnections(): number {
  return Math.max(100, Math.min(LONGEST_QUEUE, Math.floor(descriptorLimit() / 2)));
}

function close({ server, timer }: Listener): void {
  clearTimeout(timer);
  server.removeAllListeners('error').on('error', () => {});
  // One that was told to listen and has not begun yet begins all the same.
  server.once('listening', () => server.close());
  server.close();
  server.closeAllConnections();
}
