import type { PeerFilter } from '../masquerade/peer-filter.ts';
import { type Check, formatCheck } from '../model/health.ts';
import { fullTables, neighbourTables, permanentNeighbours } from '../overlay/neighbour-tables.ts';
import type { BindAddress } from '../process/bind-address.ts';
import { isoTime } from '../process/clock.ts';
import { type HttpAnswer, type HttpServer, type Routes, startHttp } from '../process/http.ts';
import type { Log } from '../process/log.ts';
import type { LoopStatus } from '../process/loop.ts';
import type { ServiceState } from '../process/systemd.ts';
import type { AgentConfig } from './config.ts';
import { agentMetrics } from './metrics.ts';
import type { AgentParts } from './parts.ts';

/** A loop that has come to no end for this long is stuck: restarting the process may help. */
const STUCK_MS = 120_000;

function loopCheck(
  name: string,
  status: LoopStatus | undefined,
  waits = 'no network configuration yet',
): Check {
  if (status === undefined) return { name, state: 'failed', detail: `not started: ${waits}` };
  if (status.lastError !== undefined) return { name, state: 'failed', detail: status.lastError };
  if (status.lastSuccess === undefined) return { name, state: 'failed', detail: 'has not succeeded yet' };
  return { name, state: 'ok', detail: `last success ${isoTime(status.lastSuccess)}` };
}

/** More of one kind are only counted: whoever can write one lease can write thousands. */
const MOST_SHOWN = 20;

function few<T>(
  kind: string,
  items: readonly T[],
  line: (item: T) => { readonly name: string; readonly detail: string },
): Check[] {
  const result = items.slice(0, MOST_SHOWN).map((item): Check => ({ ...line(item), state: 'warning' }));
  if (items.length > MOST_SHOWN)
    result.push({
      name: kind,
      state: 'warning',
      detail: `and ${items.length - MOST_SHOWN} more of this kind`,
    });
  return result;
}

/** Where nobody asked for the filter it is silent, unless it cannot be taken away. */
function peerFilterChecks(filter: PeerFilter | undefined): Check[] {
  const status = filter?.loop.status();
  if (filter === undefined || status === undefined) return [];
  if (!filter.enabled && status.lastError === undefined) return [];
  return [loopCheck('VXLAN peers', status), ...filter.warnings()];
}

function permanent({ source, overlay }: AgentParts): ReturnType<typeof permanentNeighbours> {
  const { backend, paths = [] } = overlay?.peers.input ?? {};
  return permanentNeighbours(backend, source.leases().values(), (publicIp) =>
    paths.some((path) => path.family === publicIp.family && path.onLink(publicIp) !== undefined),
  );
}

/** What /readyz is made of. */
export function checks(parts: AgentParts): Check[] {
  const { source, overlay, masquerade, changes, conflicts, cni } = parts;
  const own = source.own();
  const { connected, lastError, leaseError, configError, problems, malformed, from } = source.status();
  const why = changes === undefined ? configError : undefined;
  const pods = overlay?.podNetwork();
  const result: Check[] = [
    own === undefined
      ? {
          name: 'lease',
          state: 'failed',
          detail: `this node holds no lease: ${why ?? leaseError ?? 'not yet'}`,
        }
      : { name: 'lease', state: 'ok', detail: own.name },
    loopCheck('overlay', overlay?.loop.status()),
    loopCheck(
      'masquerade',
      masquerade?.loop.status(),
      overlay === undefined ? undefined : 'the overlay does not stand yet',
    ),
    ...peerFilterChecks(parts.peerFilter),
    connected
      ? { name: 'lease source', state: 'ok', detail: from === undefined ? 'followed' : `followed at ${from}` }
      : {
          name: 'lease source',
          state: 'warning',
          detail: `not followed now, traffic goes on: ${lastError ?? 'connecting'}`,
        },
  ];
  if (parts.cniConfiguration !== undefined)
    result.push(loopCheck('CNI configuration', parts.cniConfiguration.loop.status()));
  if (pods !== undefined && !pods.ready)
    result.push({ name: 'pod network', state: 'failed', detail: pods.reason });
  for (const detail of (pods?.ready === true ? cni?.problems() : undefined) ?? [])
    result.push({ name: 'CNI', state: 'warning', detail });
  const change = changes?.check();
  if (change !== undefined) result.push(change);
  if (overlay !== undefined) result.push(...overlay.settings.problems(), ...overlay.warnings());
  result.push(
    ...parts.rules.warnings(),
    ...(masquerade?.warnings() ?? []),
    ...(parts.mesh?.warnings() ?? []),
  );
  result.push(...fullTables(neighbourTables(), permanent(parts)));
  if (own !== undefined && connected && leaseError !== undefined)
    result.push({ name: 'lease', state: 'warning', detail: leaseError });
  for (const detail of problems) result.push({ name: 'own node', state: 'warning', detail });
  const unreadable = [...malformed].map(([name, reason]) => ({ name, reason }));
  for (const skipped of [unreadable, overlay?.peers.skipped ?? []])
    result.push(
      ...few('leases', skipped, ({ name, reason }) => ({
        name: `lease ${name}`,
        detail: `skipped: ${reason}`,
      })),
    );
  result.push(...few('conflicts', conflicts, ({ detail }) => ({ name: 'conflict', detail })));
  return result;
}

function readyz(subject: AgentParts): HttpAnswer {
  const all = checks(subject);
  const body = all.map(formatCheck).join('');
  return { status: all.some(({ state }) => state === 'failed') ? 503 : 200, body };
}

type LoopingParts = Partial<Pick<AgentParts, 'overlay' | 'masquerade' | 'peerFilter'>>;

/** Whether a restart could help: not where etcd or the kernel refuse, only where something hangs. */
export function healthz({ overlay, masquerade, peerFilter }: LoopingParts): HttpAnswer {
  const stuck = [overlay?.loop, masquerade?.loop, peerFilter?.loop]
    .map((loop) => loop?.status())
    .find((status) => (status?.stuckMs ?? 0) > STUCK_MS);
  if (stuck !== undefined) return { status: 500, body: `the loop '${stuck.name}' is stuck\n` };
  return { status: 200, body: 'ok\n' };
}

/** For systemd: flanneld is ready, too, when its subnet file stands. */
export function serviceState(parts: AgentParts): ServiceState {
  const pods = parts.overlay?.podNetwork();
  const own = parts.source.own();
  const waits = parts.source.status().configError ?? 'waiting for the network configuration';
  const status = pods?.ready === true ? `pods' subnet ${own?.name}` : (pods?.reason ?? waits);
  return {
    ready: pods?.ready === true && own !== undefined,
    status,
    alive: healthz(parts).status === 200,
  };
}

/**
 * Serves /healthz, /readyz and /metrics where the configuration asks for them.
 * @returns closes the servers
 * @throws TwillError `conflict` when an address is in use
 */
export async function serveHealth(
  config: Pick<AgentConfig, 'healthz' | 'metrics'>,
  subject: () => AgentParts,
  log: Log,
): Promise<() => Promise<void>> {
  const health: Routes = { '/healthz': () => healthz(subject()), '/readyz': () => readyz(subject()) };
  const all: Routes = { ...health, '/metrics': () => agentMetrics(subject(), checks(subject())) };
  const wanted: (BindAddress & { routes: Routes })[] = [];
  if (config.healthz !== undefined) wanted.push({ ...config.healthz, routes: health });
  if (config.metrics !== undefined) wanted.push({ ...config.metrics, routes: all });
  const servers: HttpServer[] = [];
  for (const { host, port, routes } of wanted) {
    const server = await startHttp(host, port, routes, log);
    log.info({ host, port: server.port, paths: Object.keys(routes) }, 'serving health and metrics');
    servers.push(server);
  }
  return async () => {
    await Promise.all(servers.map((server) => server.close()));
  };
}
