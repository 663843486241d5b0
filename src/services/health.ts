import { isoTime, wallClockMs } from '../process/clock.ts';
import {
  type HttpAnswer,
  type HttpServer,
  parseBindAddress,
  type Routes,
  startHttp,
} from '../process/http.ts';
import type { ProxyConfig } from './config.ts';
import type { ServiceProxy } from './service-proxy.ts';

function iso(time: number | undefined): string | null {
  return time === undefined ? null : isoTime(time);
}

/**
 * As kube-proxy answers (pkg/proxy/healthcheck/proxy_health.go): a load balancer that asks `/healthz` is turned away from
 * a node that will go; `/livez` is about the proxy alone, so that nobody restarts it because of the node.
 */
function healthAnswer(proxy: ServiceProxy, healthy: boolean): HttpAnswer {
  const { lastSuccess, lastError } = proxy.loop.status();
  const now = wallClockMs();
  const body = {
    lastUpdated: iso(healthy ? now : lastSuccess),
    currentTime: iso(now),
    nodeEligible: proxy.nodeEligible,
    lastError: lastError ?? null,
  };
  return { status: healthy ? 200 : 503, body: `${JSON.stringify(body)}\n`, type: 'application/json' };
}

function readyAnswer(proxy: ServiceProxy): HttpAnswer {
  const { lastError } = proxy.loop.status();
  const { waitingFor } = proxy;
  const reason =
    lastError ?? (waitingFor === undefined ? 'rules are being written' : `waiting for ${waitingFor}`);
  return { status: proxy.ready ? 200 : 503, body: proxy.ready ? 'ok\n' : `${reason}\n` };
}

function routes(proxy: ServiceProxy): { health: Routes; metrics: Routes } {
  const { metrics } = proxy;
  const counted = (counter: 'healthz' | 'livez') => (): HttpAnswer => {
    const eligible = counter === 'livez' || proxy.nodeEligible;
    const answer = healthAnswer(proxy, proxy.healthy && eligible);
    metrics[counter].inc({ code: String(answer.status) });
    return answer;
  };
  return {
    health: {
      '/healthz': counted('healthz'),
      '/livez': counted('livez'),
      '/readyz': () => readyAnswer(proxy),
    },
    metrics: {
      '/metrics': async () => {
        proxy.updateGauges();
        return { status: 200, body: await metrics.registry.metrics(), type: metrics.registry.contentType };
      },
      '/proxyMode': () => ({ status: 200, body: 'iptables' }),
      '/healthz': () => healthAnswer(proxy, proxy.healthy),
    },
  };
}

/** Health and metrics; an empty address means not to serve them. @throws TwillError `conflict` naming the address */
export async function startProxyServers(
  config: ProxyConfig,
  proxy: ServiceProxy,
): Promise<{ close(): Promise<void> }> {
  const { health, metrics } = routes(proxy);
  const servers: HttpServer[] = [];
  for (const [address, served] of [
    [config.healthzAddress, health],
    [config.metricsAddress, metrics],
  ] as const) {
    if (address === '') continue;
    const { host, port } = parseBindAddress(address);
    servers.push(await startHttp(host, port, served));
  }
  return {
    close: async () => {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}
