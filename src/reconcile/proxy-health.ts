import type { ProxyConfig } from '../config/proxy.ts';
import { type HttpAnswer, type HttpServer, parseBindAddress, type Routes, startHttp } from './http.ts';
import type { ServiceProxy } from './service-proxy.ts';

/** Rules that could not be written for this long are not healthy any more. */
const UNHEALTHY_MS = 60_000;

function iso(time: number | undefined): string | null {
  return time === undefined ? null : new Date(time).toISOString();
}

function healthAnswer(proxy: ServiceProxy): HttpAnswer {
  const { lastSuccess, consecutiveFailures, lastError } = proxy.loop.status();
  const now = Date.now();
  const stale = consecutiveFailures > 0 && now - (lastSuccess ?? proxy.startedAt) > UNHEALTHY_MS;
  const body = { lastUpdated: iso(lastSuccess), currentTime: iso(now), lastError: lastError ?? null };
  return { status: stale ? 503 : 200, body: `${JSON.stringify(body)}\n`, type: 'application/json' };
}

function readyAnswer(proxy: ServiceProxy): HttpAnswer {
  const { lastSuccess, lastError } = proxy.loop.status();
  const reason =
    lastError ??
    (lastSuccess === undefined ? 'waiting for the first full list of Services and EndpointSlices' : '');
  return { status: proxy.ready ? 200 : 503, body: proxy.ready ? 'ok\n' : `${reason}\n` };
}

function routes(proxy: ServiceProxy): { health: Routes; metrics: Routes } {
  const { metrics } = proxy;
  const counted = (counter: 'healthz' | 'livez') => (): HttpAnswer => {
    const answer = healthAnswer(proxy);
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
      '/healthz': () => healthAnswer(proxy),
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
