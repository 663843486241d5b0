import type { Registry } from 'prom-client';
import { meshMetricLines } from '../mesh/plan/metrics.ts';
import type { Check } from '../model/health.ts';
import { type NeighbourTable, neighbourTables } from '../overlay/neighbour-tables.ts';
import { monotonicMs } from '../process/clock.ts';
import type { HttpAnswer } from '../process/http.ts';
import type { LoopStatus } from '../process/loop.ts';
import { describeProcess } from '../process/process-metrics.ts';
import type { AgentParts } from './parts.ts';
import { repairCounts } from './repairs.ts';

interface Sample {
  readonly name: string;
  readonly help: string;
  readonly kind: 'gauge' | 'counter';
  /** The values, by the value of `label`; a plain number where there is no label. */
  readonly value: number | Readonly<Record<string, number>>;
  readonly label?: string;
}

/** A number of each loop that runs, by its name. */
function ofLoops(
  { overlay, masquerade, peerFilter, mesh, changes }: AgentParts,
  of: (status: LoopStatus) => number | undefined,
): Record<string, number> {
  const numbers: Record<string, number> = {};
  for (const part of [overlay, masquerade, peerFilter, mesh, changes]) {
    const status = part?.loop.status();
    const number = status && of(status);
    if (status !== undefined && number !== undefined) numbers[status.name] = number;
  }
  return numbers;
}

function samples(parts: AgentParts, checks: readonly Check[]): Sample[] {
  const { source, overlay, changes, conflicts, rules } = parts;
  const { connected, malformed } = source.status();
  const tables = neighbourTables();
  const byFamily = (of: (table: NeighbourTable) => number): Record<string, number> =>
    Object.fromEntries(tables.map((table) => [table.family, of(table)]));
  const gauge = (name: string, help: string, value: Sample['value'], label?: string): Sample => ({
    name: `twill_agent_${name}`,
    help,
    kind: 'gauge',
    value,
    ...(label === undefined ? {} : { label }),
  });
  const counter = (...rest: Parameters<typeof gauge>): Sample => ({ ...gauge(...rest), kind: 'counter' });
  const ofKind = (wanted: string): number => conflicts.filter(({ kind }) => kind === wanted).length;
  const inState = (wanted: Check['state']): number => checks.filter(({ state }) => state === wanted).length;
  const pods = overlay?.podNetwork();
  const left = source.leaseSecondsLeft();
  return [
    gauge('ready', 'Whether /readyz answers 200.', inState('failed') === 0 ? 1 : 0),
    gauge(
      'checks',
      'Lines of /readyz by their state.',
      { ok: inState('ok'), warning: inState('warning'), failed: inState('failed') },
      'state',
    ),
    gauge(
      'lease_seconds_left',
      'Until our lease ends unless it is renewed; infinite for one that does not end.',
      left ?? (source.own() === undefined ? 0 : Number.POSITIVE_INFINITY),
    ),
    gauge(
      'pod_mtu_bytes',
      'MTU of pods on this node, 0 while there is no pod network.',
      pods?.ready === true ? pods.network.mtu : 0,
    ),
    gauge('lease_held', 'Whether this node holds a lease.', source.own() === undefined ? 0 : 1),
    gauge('lease_source_connected', 'Whether the source of leases is followed.', connected ? 1 : 0),
    gauge('leases', 'Leases of all nodes that could be read.', source.leases().size),
    gauge('leases_malformed', 'Leases that could not be read.', malformed.size),
    gauge(
      'leases_skipped',
      'Reasons for which leases that could be read have no routes, or not all.',
      overlay?.peers.skipped.length ?? 0,
    ),
    gauge(
      'lease_conflicts',
      'Pairs of leases that cannot both be right: one public IP, or overlapping subnets.',
      { 'public-ip': ofKind('public-ip'), subnet: ofKind('subnet') },
      'kind',
    ),
    gauge(
      'network_configuration_pending',
      'Whether a network configuration waits, or cannot be read.',
      changes?.check() === undefined ? 0 : 1,
    ),
    gauge(
      'rules_tool',
      'What rules are made with: 1 for iptables or nftables.',
      rules.current === undefined ? {} : { [rules.current.mode]: 1 },
      'tool',
    ),
    gauge(
      'overlay_entries',
      'Routes, neighbours and forwarding entries that should stand.',
      overlay?.peers.size ?? 0,
    ),
    gauge(
      'contested_objects',
      'Objects in the kernel that another program keeps changing.',
      overlay?.contest.contested(monotonicMs()).length ?? 0,
    ),
    gauge(
      'node_problems',
      'Settings of the node that are not as pods need them.',
      overlay?.settings.problems().length ?? 0,
    ),
    counter(
      'repairs_total',
      'What was put right because something else had changed it.',
      repairCounts(parts),
      'what',
    ),
    counter(
      'loop_failures_total',
      'Failed runs.',
      ofLoops(parts, ({ failures }) => failures),
      'loop',
    ),
    counter(
      'loop_runs_total',
      'Runs, those that failed among them.',
      ofLoops(parts, ({ runs }) => runs),
      'loop',
    ),
    gauge(
      'loop_last_success_timestamp_seconds',
      'When the last run ended that did not fail.',
      ofLoops(parts, ({ lastSuccess }) => lastSuccess && lastSuccess / 1000),
      'loop',
    ),
    gauge(
      'loop_stuck_seconds',
      'For how long a run has come to no end.',
      ofLoops(parts, ({ stuckMs }) => stuckMs / 1000),
      'loop',
    ),
    gauge(
      'neighbours',
      'Entries in the neighbour table of the node.',
      byFamily(({ entries }) => entries),
      'family',
    ),
    gauge(
      'neighbours_limit',
      'Most entries that the table may have (gc_thresh3).',
      byFamily(({ limit }) => limit),
      'family',
    ),
  ];
}

/** Of the process: kept, since what it measures it measures from the first question on. */
let ofProcess: Registry | undefined;

/**
 * Metrics are made when they are asked for: the library costs start-up time and memory.
 * @param checks the lines of /readyz
 */
export async function agentMetrics(parts: AgentParts, checks: readonly Check[]): Promise<HttpAnswer> {
  // The bundle offers this CommonJS library's exports as its default only.
  const client = (await import('prom-client')).default;
  const { Counter, Gauge, Registry: Made } = client;
  if (ofProcess === undefined) {
    ofProcess = new Made();
    describeProcess(client, ofProcess, 'agent');
  }
  const registry: Registry = new Made();
  for (const { name, help, kind, value, label } of samples(parts, checks)) {
    const settings = { name, help, registers: [registry], labelNames: label === undefined ? [] : [label] };
    const metric = kind === 'counter' ? new Counter(settings) : new Gauge(settings);
    if (typeof value === 'number') metric.inc({}, value);
    else for (const [key, amount] of Object.entries(value)) metric.inc({ [label ?? '']: key }, amount);
  }
  const others = [...meshMetricLines(parts.mesh?.state()), ...(parts.cni?.metrics() ?? [])];
  const lines = others.map((line) => `${line}\n`).join('');
  const texts = [await registry.metrics(), lines, await ofProcess.metrics()];
  return { status: 200, body: texts.join(''), type: registry.contentType };
}
