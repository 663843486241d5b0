import { createServer, type Server } from 'node:http';
import type { Log } from '../config/log.ts';
import { describeError } from '../model/error.ts';

interface HealthPort {
  readonly port: number;
  localEndpoints: number;
  readonly server: Server;
  timer?: NodeJS.Timeout;
}

/** A port that somebody else holds may be free later. */
const RETRY_MS = 2000;

/**
 * The servers behind `healthCheckNodePort`: they tell a load balancer whether this node has an endpoint of the Service.
 * Answers are kube-proxy's (pkg/proxy/healthcheck/service_health.go).
 */
export class HealthPorts {
  private readonly ports = new Map<string, HealthPort>();
  private readonly healthy: () => boolean;
  private readonly log: Log;

  constructor(healthy: () => boolean, log: Log) {
    this.healthy = healthy;
    this.log = log;
  }

  /** @param service `namespace/name` @param port 0 when it has no such port (any more) */
  set(service: string, port: number, localEndpoints: number): void {
    const standing = this.ports.get(service);
    if (standing !== undefined && standing.port === port) standing.localEndpoints = localEndpoints;
    else {
      this.close(service);
      if (port !== 0) this.open(service, port, localEndpoints);
    }
  }

  stop(): void {
    for (const service of [...this.ports.keys()]) this.close(service);
  }

  private open(service: string, port: number, localEndpoints: number): void {
    const entry: HealthPort = { port, localEndpoints, server: createServer() };
    const [namespace, name] = service.split('/');
    entry.server.on('request', (_request, response) => {
      const serviceProxyHealthy = this.healthy();
      const usable = entry.localEndpoints > 0 && serviceProxyHealthy;
      response.writeHead(usable ? 200 : 503, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': String(entry.localEndpoints),
      });
      const body = {
        service: { namespace, name },
        localEndpoints: entry.localEndpoints,
        serviceProxyHealthy,
      };
      response.end(`${JSON.stringify(body)}\n`);
    });
    let said = false;
    entry.server.on('error', (error) => {
      const fields = { service, port, error: describeError(error) };
      if (!said) this.log.warn(fields, 'health check port cannot be served, trying again');
      said = true;
      entry.timer = setTimeout(() => entry.server.listen(port), RETRY_MS);
    });
    entry.server.listen(port);
    this.ports.set(service, entry);
  }

  private close(service: string): void {
    const entry = this.ports.get(service);
    if (entry === undefined) return;
    this.ports.delete(service);
    clearTimeout(entry.timer);
    entry.server.removeAllListeners('error').on('error', () => {});
    entry.server.close();
    entry.server.closeAllConnections();
  }
}
