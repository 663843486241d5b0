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
import type { StatusAnswer } from '../../plan/status.ts';
import { type Listing, listing } from './changes.ts';
import type {
  DriftEvent,
  NodeRow,
  NodesEvent,
  PodsEvent,
  PodView,
  ServiceView,
  StatusEvent,
} from './view.ts';

/** Bounds of what the page is told: it is read by people, and kept by a browser on a phone. */
const MOST_NODES = 10_000;
/** With more nodes than these, the way to one that is well is left out. */
const MOST_WAYS = 500;
const MOST_PODS = 500;
const MOST_SERVICES = 20_000;
const MOST_PROBLEMS = 60;
const MOST_DIFFERENCES = 100;
const MOST_FOREIGN = 20;
const MOST_SKIPPED = 50;
/** Ports or addresses in one row: whoever makes objects with thousands keeps nobody else's from the page. */
const MOST_IN_ROW = 20;
const LONGEST = 400;

const cut = (text: string): string => oneLine(text, LONGEST);

function troubledFirst<T>(items: readonly T[], isTroubled: (item: T) => boolean): T[] {
  return [...items.filter(isTroubled), ...items.filter((item) => !isTroubled(item))];
}

/** The first ones, and how many more there are. */
function some(texts: readonly string[]): string[] {
  const more = over(texts.length, MOST_IN_ROW);
  return more === 0 ? [...texts] : [...texts.slice(0, MOST_IN_ROW), `and ${more} more`];
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

/** Those that are troubled come first, so that they are not what is left out. */
export function nodeRows(peers: readonly PeerRow[]): Listing<NodeRow> {
  const sorted = troubledFirst(peers, ({ troubles }) => troubles.length > 0);
  return listing(sorted, MOST_NODES, ({ subnet, lease, underlay, device, way, troubles, mesh }): NodeRow => {
    // Where there is trouble, the page shows that in its place.
    const told = peers.length <= MOST_WAYS && troubles.length === 0;
    const trouble = cut(troubles.join('; '));
    const seen = mesh === undefined ? '' : measured(mesh);
    return [subnet, lease, underlay, device ?? '', told ? way : '', trouble, cut(doubtOf(mesh)), seen];
  });
}

/** What the page is told beside the rows. */
export function nodesRest(
  foreign: readonly ForeignEntry[],
  away: string | undefined,
): Pick<NodesEvent, 'foreign' | 'away'> {
  return { foreign: foreign.slice(0, MOST_FOREIGN).map(({ kind, entry }) => cut(`${kind} ${entry}`)), away };
}

type TroubledPod = PodRecord & { readonly troubles: readonly string[] };

function podView(pod: TroubledPod): PodView {
  return {
    name: pod.pod,
    container: pod.containerId,
    addresses: addressesOf(pod),
    veth: pod.hostVeth,
    hostPorts: some(
      pod.portMappings.map(
        ({ hostPort, containerPort, protocol }) => `${hostPort}→${containerPort}/${protocol}`,
      ),
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
  return [
    name,
    type,
    clusterIPs,
    some([
      ...externalIPs.map((address) => `${address} external`),
      ...loadBalancerIPs.map((address) => `${address} load balancer`),
    ]),
    ports
      .slice(0, MOST_IN_ROW)
      .map(({ name: port, port: number, nodePort, protocol }) => [port, number, nodePort, protocol]),
    [endpoints.ready, endpoints.local, endpoints.terminating, endpoints.notReady],
    trouble === undefined ? '' : cut(trouble),
    over(ports.length, MOST_IN_ROW),
  ];
}

/** Those that are troubled come first, so that they are not what is left out. */
export function serviceRows(services: readonly ServiceRow[]): Listing<ServiceView> {
  return listing(
    troubledFirst(services, ({ trouble }) => trouble !== undefined),
    MOST_SERVICES,
    serviceView,
  );
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
