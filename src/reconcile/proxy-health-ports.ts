import { createServer, type Server } from 'node:http';
import type { Log } from '../config/log.ts';
import { describeError } from '../model/error.ts';

interface HealthPort {
  readonly service: string;
  localEndpoints: number;
  readonly server: Server;
}

/**
 * The servers behind `healthCheckNodePort`: they tell a load balancer whether this node has an endpoint of the Service.
 * Answers are kube-proxy's (pkg/proxy/healthcheck/service_health.go).
 */
export class HealthPorts {
  private readonly ports = new Map<number, HealthPort>();
  private readonly portOf = new Map<string, number>();
  private readonly healthy: () => boolean;
  private readonly log: Log;

  constructor(healthy: () => boolean, log: Log) {
    this.healthy = healthy;
    this.log = log;
  }

  /** @param service `namespace/name` @param port 0 when it has no such port (any more) */
  set(service: string, port: number, localEndpoints: number): void {
    const old = this.portOf.get(service);
    if (old !== undefined && old !== port) this.close(service, old);
    if (port === 0) return;
    const standing = this.ports.get(port);
    if (standing === undefined) this.open(service, port, localEndpoints);
    else if (standing.service === service) standing.localEndpoints = localEndpoints;
    else this.log.warn({ service, port, usedBy: standing.service }, 'health check port is taken');
  }

  stop(): void {
    for (const [service, port] of this.portOf) this.close(service, port);
  }

  private open(service: string, port: number, localEndpoints: number): void {
    const entry: HealthPort = { service, localEndpoints, server: createServer() };
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
    entry.server.on('error', (error) => {
      this.log.warn({ service, port, error: describeError(error) }, 'health check port cannot be served');
      this.close(service, port);
    });
    entry.server.listen(port);
    this.ports.set(port, entry);
    this.portOf.set(service, port);
  }

  private close(service: string, port: number): void {
    const entry = this.ports.get(port);
    this.portOf.delete(service);
    if (entry?.service !== service) return;
    this.ports.delete(port);
    entry.server.close();
    entry.server.closeAllConnections();
  }
}
