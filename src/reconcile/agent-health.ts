import type { CniServer } from '../cni/server.ts';
import type { AgentConfig } from '../config/agent.ts';
import type { Log } from '../config/log.ts';
import type { LeaseConflict } from '../desired/lease-conflicts.ts';
import { type HttpAnswer, type HttpServer, parseBindAddress, type Routes, startHttp } from './http.ts';
import type { LeaseSource } from './lease-source.ts';
import type { LoopStatus } from './loop.ts';
import type { Masquerade } from './masquerade.ts';
import type { Overlay } from './overlay.ts';

/** The parts whose state makes up the agent's; those that do not run yet are undefined. */
export interface HealthSubject {
  readonly source: LeaseSource;
  readonly overlay: Overlay | undefined;
  readonly masquerade: Masquerade | undefined;
  readonly conflicts: readonly LeaseConflict[];
  readonly cni: CniServer | undefined;
}

/** One line of /readyz. A failed check makes the agent not ready; a warning does not. */
interface Check {
  readonly name: string;
  readonly state: 'ok' | 'failed' | 'warning';
  readonly detail: string;
}

/** A loop that has been running for this long is stuck: restarting the process may help. */
const STUCK_MS = 120_000;

function loopCheck(name: string, status: LoopStatus | undefined): Check {
  if (status === undefined)
    return { name, state: 'failed', detail: 'not started: no network configuration yet' };
  if (status.lastError !== undefined) return { name, state: 'failed', detail: status.lastError };
  if (status.lastSuccess === undefined) return { name, state: 'failed', detail: 'has not succeeded yet' };
  return { name, state: 'ok', detail: `last success ${new Date(status.lastSuccess).toISOString()}` };
}

function checks({ source, overlay, masquerade, conflicts, cni }: HealthSubject): Check[] {
  const own = source.own();
  const { connected, lastError, leaseError, malformed } = source.status();
  const pods = overlay?.podNetwork();
  const result: Check[] = [
    own === undefined
      ? { name: 'lease', state: 'failed', detail: `this node holds no lease: ${leaseError ?? 'not yet'}` }
      : { name: 'lease', state: 'ok', detail: own.name },
    loopCheck('overlay', overlay?.loop.status()),
    loopCheck('masquerade', masquerade?.loop.status()),
    connected
      ? { name: 'lease source', state: 'ok', detail: 'followed' }
      : {
          name: 'lease source',
          state: 'warning',
          detail: `not followed now, traffic goes on: ${lastError ?? 'connecting'}`,
        },
  ];
  if (pods !== undefined && !pods.ready)
    result.push({ name: 'pod network', state: 'failed', detail: pods.reason });
  const problem = pods?.ready === true ? cni?.problem() : undefined;
  if (problem !== undefined) result.push({ name: 'CNI', state: 'warning', detail: problem });
  for (const [name, reason] of malformed)
    result.push({ name: `lease ${name}`, state: 'warning', detail: `skipped: ${reason}` });
  for (const { detail } of conflicts) result.push({ name: 'conflict', state: 'warning', detail });
  return result;
}

const signs = { ok: '[+]', failed: '[-]', warning: '[!]' } as const;

function readyz(subject: HealthSubject): HttpAnswer {
  const all = checks(subject);
  const body = all.map(({ name, state, detail }) => `${signs[state]} ${name}: ${detail}\n`).join('');
  return { status: all.some(({ state }) => state === 'failed') ? 503 : 200, body };
}

function healthz({ overlay, masquerade }: HealthSubject): HttpAnswer {
  const stuck = [overlay?.loop, masquerade?.loop]
    .map((loop) => loop?.status())
    .find((status) => status?.runningSince !== undefined && Date.now() - status.runningSince > STUCK_MS);
  if (stuck !== undefined) return { status: 500, body: `the loop '${stuck.name}' is stuck\n` };
  return { status: 200, body: 'ok\n' };
}

/** Metrics are made when they are asked for: the library costs start-up time and memory. */
async function metrics(subject: HealthSubject): Promise<HttpAnswer> {
  // The bundle offers this CommonJS library's exports as its default only.
  const { Gauge, Registry } = (await import('prom-client')).default;
  const registry = new Registry();
  const gauge = (name: string, help: string, value: number, labels?: Record<string, string>): void => {
    const made = new Gauge({ name, help, registers: [registry], labelNames: Object.keys(labels ?? {}) });
    labels === undefined ? made.set(value) : made.set(labels, value);
  };
  const { source, overlay, masquerade, conflicts } = subject;
  const { connected, malformed } = source.status();
  const own = source.own();
  gauge('twill_agent_lease_held', 'Whether this node holds a lease.', own === undefined ? 0 : 1);
  gauge('twill_agent_lease_source_connected', 'Whether the source of leases is followed.', connected ? 1 : 0);
  gauge('twill_agent_leases', 'Leases of all nodes that could be read.', source.leases().size);
  gauge('twill_agent_leases_malformed', 'Leases that could not be read.', malformed.size);
  gauge(
    'twill_agent_lease_conflicts',
    'Pairs of leases with one public IP or overlapping subnets.',
    conflicts.length,
  );
  gauge(
    'twill_agent_overlay_entries',
    'Routes, neighbours and forwarding entries.',
    overlay?.peers.size ?? 0,
  );
  gauge('twill_agent_overlay_repairs', 'Entries put right since the start.', overlay?.peers.repairs ?? 0);
  gauge(
    'twill_agent_device_repairs',
    'Device settings put right since the start.',
    overlay?.deviceRepairs ?? 0,
  );
  gauge(
    'twill_agent_rule_repairs',
    'Times that rules were put right since the start.',
    masquerade?.repairs ?? 0,
  );
  const failures = new Gauge({
    name: 'twill_agent_loop_failures',
    help: 'Failed runs since the start.',
    registers: [registry],
    labelNames: ['loop'],
  });
  for (const status of [overlay?.loop.status(), masquerade?.loop.status()])
    if (status !== undefined) failures.set({ loop: status.name }, status.failures);
  const cni = subject.cni?.metrics().map((line) => `${line}\n`) ?? [];
  return { status: 200, body: `${await registry.metrics()}${cni.join('')}`, type: registry.contentType };
}

/**
 * Serves /healthz, /readyz and /metrics where the configuration asks for them.
 * @returns closes the servers
 * @throws TwillError `conflict` when an address is in use, `invalid`
 */
export async function serveHealth(
  config: Pick<AgentConfig, 'healthz' | 'metricsBindAddress'>,
  subject: () => HealthSubject,
  log: Log,
): Promise<() => Promise<void>> {
  const health: Routes = { '/healthz': () => healthz(subject()), '/readyz': () => readyz(subject()) };
  const all: Routes = { ...health, '/metrics': () => metrics(subject()) };
  const wanted: { host: string; port: number; routes: Routes }[] = [];
  if (config.healthz !== undefined) wanted.push({ ...config.healthz, routes: health });
  if (config.metricsBindAddress !== undefined)
    wanted.push({ ...parseBindAddress(config.metricsBindAddress), routes: all });
  const servers: HttpServer[] = [];
  for (const { host, port, routes } of wanted) {
    const server = await startHttp(host, port, routes);
    log.info({ host, port: server.port, paths: Object.keys(routes) }, 'serving health and metrics');
    servers.push(server);
  }
  return async () => {
    await Promise.all(servers.map((server) => server.close()));
  };
}
