import { TwillError } from '../model/error.ts';
import { type Check, formatCheck } from '../model/health.ts';
import { oneLine } from '../model/text.ts';
import type { BindAddress } from '../process/bind-address.ts';
import { isoTime, wallClockMs } from '../process/clock.ts';
import { type HttpAnswer, keepHttp, type Routes, type WantedServer } from '../process/http.ts';
import type { Log } from '../process/log.ts';
import type { ServiceState } from '../process/systemd.ts';
import type { ProxyConfig } from './config.ts';
import type { ProxyMetrics } from './metrics.ts';
import { lackChecks, type ModeChoice } from './plan/mode.ts';
import type { ServiceProxy } from './service-proxy.ts';
import type { ProxySettings } from './settings.ts';
import { zpages } from './zpages.ts';

/** What is asked about: the proxy, once it is there. */
export interface ProxyState {
  proxy: ServiceProxy | undefined;
  /** What the start waits for, in words, until then. */
  waitingFor: string;
  /** What counts; once {@link mode} is there, of that mode. */
  config: ProxyConfig;
  /** How rules are programmed, and why so; undefined until that is decided. */
  mode: ModeChoice | undefined;
  /** Families that are not served, with why. */
  readonly unserved: Check[];
}

/** What Go writes for a time that there is none of. */
const NEVER = '0001-01-01T00:00:00Z';

/**
 * As kube-proxy answers (pkg/proxy/healthcheck/proxy_health.go): a load balancer that asks `/healthz` is turned away from
 * a node that will go; `/livez` is about the proxy alone, so that nobody restarts it because of the node. One that waits
 * to start is healthy, as one that starts.
 */
function healthAnswer({ proxy }: ProxyState, withNode: boolean): HttpAnswer {
  const now = wallClockMs();
  const at = (sinceMs: number | undefined): string =>
    sinceMs === undefined ? NEVER : isoTime(now - sinceMs);
  const families = [...(proxy?.familyHealth() ?? [])];
  const healthy = proxy?.healthy ?? true;
  const nodeEligible = proxy?.nodeEligible ?? true;
  const well = healthy && (nodeEligible || !withNode);
  const latest = families.flatMap(([, { sinceMs }]) => sinceMs ?? []).sort((a, b) => a - b)[0];
  const body = {
    // Of one that is well it is recent, whenever there was something to write: as there.
    lastUpdated: well ? isoTime(now) : at(latest),
    currentTime: isoTime(now),
    ...(withNode ? { nodeEligible } : {}),
    healthy,
    status: Object.fromEntries(
      families.map(([name, one]) => [name, { lastUpdated: at(one.sinceMs), healthy: one.healthy }]),
    ),
    lastError: proxy?.loop.status().lastError ?? null,
  };
  return { status: well ? 200 : 503, body: `${JSON.stringify(body)}\n`, type: 'application/json' };
}

/** What somebody should look at, though rules stand. */
export function stateWarnings({ proxy, mode, unserved }: ProxyState): Check[] {
  return [...(mode === undefined ? [] : lackChecks(mode)), ...unserved, ...(proxy?.warnings() ?? [])];
}

function readyAnswer(state: ProxyState): HttpAnswer {
  const { proxy, waitingFor: start } = state;
  if (proxy?.ready === true) {
    const warnings = stateWarnings(state).map(formatCheck);
    return { status: 200, body: `ok\n${warnings.join('')}` };
  }
  const waitingFor = proxy === undefined ? start : proxy.waitingFor;
  const reason = waitingFor === undefined ? 'rules are being written' : `waiting for ${waitingFor}`;
  return { status: 503, body: `${oneLine(proxy?.loop.status().lastError ?? reason)}\n` };
}

function healthRoutes(state: ProxyState, metrics: ProxyMetrics): Routes {
  const counted = (counter: 'healthz' | 'livez') => (): HttpAnswer => {
    const answer = healthAnswer(state, counter === 'healthz');
    metrics[counter].inc({ code: String(answer.status) });
    return answer;
  };
  return {
    '/healthz': counted('healthz'),
    '/livez': counted('livez'),
    '/readyz': () => readyAnswer(state),
  };
}

/** For systemd. */
export function serviceState(state: ProxyState): ServiceState {
  const ready = state.proxy?.ready === true;
  const { body } = readyAnswer(state);
  return {
    ready,
    status: ready ? 'the rules of all Services stand' : body,
    alive: state.proxy?.healthy ?? true,
  };
}

function metricsRoutes(state: ProxyState, metrics: ProxyMetrics, settings: ProxySettings): Routes {
  const ping = (): HttpAnswer => {
    metrics.pinged();
    return { status: 200, body: 'ok' };
  };
  const own: Routes = {
    '/metrics': async () => {
      state.proxy?.updateGauges();
      return { status: 200, body: await metrics.registry.metrics(), type: metrics.registry.contentType };
    },
    '/proxyMode': () => ({ status: 200, body: state.mode!.mode }),
    '/metrics/slis': async () => ({
      status: 200,
      body: await metrics.slis.metrics(),
      type: metrics.slis.contentType,
    }),
    // That the server answers, no more: as there.
    '/healthz': ping,
    '/healthz/ping': ping,
  };
  return { ...own, ...zpages(settings, Object.keys(own)) };
}

/**
 * Health and metrics. As with kube-proxy, an address that cannot be served is tried again while rules are written, unless
 * the configuration wants the process to end then.
 */
export class ProxyServers {
  private readonly config: ProxyConfig;
  private readonly settings: ProxySettings;
  private readonly state: ProxyState;
  private readonly metrics: ProxyMetrics;
  private readonly log: Log;
  private readonly servers: WantedServer[] = [];
  /** Rejects when an address cannot be served and the process is to end for that; never resolves. */
  readonly refused: Promise<never>;
  private refuse: (error: unknown) => void = () => {};

  constructor(
    config: ProxyConfig,
    settings: ProxySettings,
    state: ProxyState,
    metrics: ProxyMetrics,
    log: Log,
  ) {
    this.config = config;
    this.settings = settings;
    this.state = state;
    this.metrics = metrics;
    this.log = log;
    this.refused = new Promise<never>((_, reject) => {
      this.refuse = reject;
    });
    this.refused.catch(() => {}); // it is asked for later
  }

  serveHealth(): void {
    this.serve('healthz-bind-address', this.config.healthzAddress, healthRoutes(this.state, this.metrics));
  }

  /** To be called once the mode is known. */
  serveMetrics(): void {
    this.serve(
      'metrics-bind-address',
      this.config.metricsAddress,
      metricsRoutes(this.state, this.metrics, this.settings),
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
  }

  private serve(flag: string, address: BindAddress | undefined, routes: Routes): void {
    if (address === undefined) return;
    const { host, port, text } = address;
    const server = keepHttp(host, port, routes, this.log);
    this.servers.push(server);
    if (!this.config.bindAddressHardFail) return;
    server.refused.catch((cause: unknown) =>
      this.refuse(new TwillError('conflict', `--${flag} ${text} cannot be served`, cause)),
    );
  }
}
