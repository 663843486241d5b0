import { isBroken } from '../../../mesh/plan/conclusion.ts';
import { sentenceOf } from '../../../mesh/plan/sentences.ts';
import type { MeshPartner } from '../../../mesh/plan/state.ts';
import { oneLine } from '../../../model/text.ts';
import { addressesOf, type PodRecord } from '../../../pods/plan/pod.ts';
import type { ServiceRow } from '../../../services/plan/row.ts';
import type { Difference } from '../../plan/difference.ts';
import { meshText } from '../../plan/mesh.ts';
import type { ForeignEntry, PeerRow } from '../../plan/peer-rows.ts';
import type { Problem } from '../../plan/problem.ts';
import type { ServicesAnswer } from '../../plan/services.ts';
import type { StatusAnswer } from '../../plan/status.ts';
import type {
  DriftEvent,
  NodeRow,
  NodesEvent,
  PodsEvent,
  PodView,
  ServicesEvent,
  ServiceView,
  StatusEvent,
} from './view.ts';

/** Bounds of what the page is told: it is read by people, and kept by a browser on a phone. */
const MOST_NODES = 10_000;
/** With more nodes than these, the way to one that is well is left out. */
const MOST_WAYS = 500;
const MOST_PODS = 500;
const MOST_SERVICES = 1000;
const MOST_PROBLEMS = 60;
const MOST_DIFFERENCES = 100;
const MOST_FOREIGN = 20;
const MOST_SKIPPED = 50;
const LONGEST = 400;

const cut = (text: string): string => oneLine(text, LONGEST);

/** Those that somebody should look at come first, so that they are not what is left out. */
function troubledFirst<T>(items: readonly T[], isTroubled: (item: T) => boolean): T[] {
  return [...items.filter(isTroubled), ...items.filter((item) => !isTroubled(item))];
}

const over = (count: number, most: number): number => Math.max(0, count - most);

/** Two digits: more change all the time, and say nothing. */
const milliseconds = (ms: number): string => `${Number(ms.toPrecision(2))} ms`;

function measured({ overlay: { asked, lost, roundTripMs } }: MeshPartner): string {
  const parts = [
    ...(roundTripMs === undefined ? [] : [milliseconds(roundTripMs)]),
    ...(lost > 0 ? [`${lost} of ${asked} lost`] : []),
  ];
  return parts.join(', ');
}

/** What is among its troubles already is not said twice. */
function doubtOf(mesh: MeshPartner | undefined): string {
  return mesh === undefined || isBroken(mesh.conclusion) ? '' : (sentenceOf(mesh) ?? '');
}

export function nodeRows(peers: readonly PeerRow[]): { rows: Map<string, NodeRow>; more: number } {
  const sorted = troubledFirst(peers, ({ troubles }) => troubles.length > 0).slice(0, MOST_NODES);
  const rows = sorted.map(({ subnet, lease, underlay, device, way, troubles, mesh }): NodeRow => {
    const told = peers.length <= MOST_WAYS || troubles.length > 0;
    const trouble = cut(troubles.join('; '));
    const seen = mesh === undefined ? '' : measured(mesh);
    return [subnet, lease, underlay, device ?? '', told ? way : '', trouble, cut(doubtOf(mesh)), seen];
  });
  return { rows: new Map(rows.map((row) => [row[0], row])), more: over(peers.length, MOST_NODES) };
}

const isSame = (a: NodeRow, b: NodeRow | undefined): boolean =>
  b !== undefined && a.every((cell, index) => cell === b[index]);

/** What the page has to be told of nodes; undefined where it knows all. @param before undefined to say it all */
export function nodesEvent(
  now: ReadonlyMap<string, NodeRow>,
  before: ReadonlyMap<string, NodeRow> | undefined,
  rest: {
    readonly more: number;
    readonly foreign: readonly ForeignEntry[];
    readonly away: string | undefined;
  },
): NodesEvent {
  const { more, away } = rest;
  const foreign = rest.foreign.slice(0, MOST_FOREIGN).map(({ kind, entry }) => cut(`${kind} ${entry}`));
  const common = { more, away, foreign };
  if (before === undefined) return { whole: true, rows: [...now.values()], gone: [], ...common };
  const rows = [...now.values()].filter((row) => !isSame(row, before.get(row[0])));
  const gone = [...before.keys()].filter((subnet) => !now.has(subnet));
  return { whole: false, rows, gone, ...common };
}

type TroubledPod = PodRecord & { readonly troubles: readonly string[] };

function podView(pod: TroubledPod): PodView {
  return {
    name: pod.pod,
    container: pod.containerId,
    addresses: addressesOf(pod),
    veth: pod.hostVeth,
    hostPorts: pod.portMappings.map(
      ({ hostPort, containerPort, protocol }) => `${hostPort}→${containerPort}/${protocol}`,
    ),
    createdAt: pod.createdAt,
    adopted: pod.adopted === true,
    troubles: pod.troubles.map(cut),
  };
}

/** The oldest first, as `twill pods` has them; those that are troubled before these. */
export function podsEvent(pods: readonly TroubledPod[], away: string | undefined): PodsEvent {
  const sorted = [...pods].sort((a, b) => a.order - b.order);
  const shown = troubledFirst(sorted, ({ troubles }) => troubles.length > 0).slice(0, MOST_PODS);
  return { pods: shown.map(podView), more: over(pods.length, MOST_PODS), away };
}

function serviceView(row: ServiceRow): ServiceView {
  const { name, type, clusterIPs, externalIPs, loadBalancerIPs, ports, endpoints, trouble } = row;
  return {
    name,
    type,
    clusterIPs,
    externalIPs,
    loadBalancerIPs,
    ports,
    endpoints,
    trouble: trouble === undefined ? undefined : cut(trouble),
  };
}

export function servicesEvent({ services, proxyAway }: ServicesAnswer): ServicesEvent {
  const shown = troubledFirst(services, ({ trouble }) => trouble !== undefined).slice(0, MOST_SERVICES);
  return {
    services: shown.map(serviceView),
    more: over(services.length, MOST_SERVICES),
    away: proxyAway,
  };
}

const severities = ['down', 'degraded', 'note'] as const;

export function statusEvent(answer: StatusAnswer): StatusEvent {
  const sorted = severities.flatMap((wanted) =>
    answer.problems.filter(({ severity }) => severity === wanted),
  );
  const problems = sorted
    .slice(0, MOST_PROBLEMS)
    .map((problem): Problem => ({ ...problem, what: cut(problem.what) }));
  return {
    ...answer,
    problems,
    mesh: meshText(answer.mesh),
    more: over(sorted.length, MOST_PROBLEMS),
    peers: { ...answer.peers, skipped: answer.peers.skipped.slice(0, MOST_SKIPPED) },
  };
}

export function driftEvent(differences: readonly Difference[], unknown: readonly string[]): DriftEvent {
  return {
    differences: differences
      .slice(0, MOST_DIFFERENCES)
      .map((one): Difference => ({ ...one, object: cut(one.object), detail: cut(one.detail) })),
    more: over(differences.length, MOST_DIFFERENCES),
    unknown: unknown.map(cut),
  };
}
