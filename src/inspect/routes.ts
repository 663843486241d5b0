import type { MeshPartner } from '../mesh/plan/state.ts';
import { TwillError } from '../model/error.ts';
import { routeKey } from '../overlay/plan/entries.ts';
import { type Look, looking } from './look.ts';
import { type Answer, type InspectFlags, type Screen, show } from './output.ts';
import type { OverlayView } from './overlay.ts';
import { entryName } from './plan/entries.ts';
import {
  type ForeignEntry,
  firstPod,
  foreignEntries,
  type PartState,
  type PeerInput,
  type PeerRow,
  type PeerWays,
  peerRow,
} from './plan/peer-rows.ts';
import { describeWay, isExpected } from './plan/reach.ts';
import type { AgentState } from './plan/state.ts';
import { type Cell, formatTable, type Tone } from './table.ts';

export interface RoutesAnswer extends Answer {
  readonly version: 1;
  readonly agentAway: string | undefined;
  readonly agentStateAt: string | undefined;
  readonly nodes: readonly PeerRow[];
  /** Entries of our devices, or with our mark, that belong to no node. */
  readonly foreign: readonly ForeignEntry[];
}

function peersOf({ leases, own, network }: AgentState): PeerInput[] {
  return leases
    .filter(({ name }) => name !== own?.name)
    .flatMap((lease) =>
      lease.families
        .filter(({ family }) => network?.families.some((one) => one.family === family) === true)
        .map(({ subnet, publicIp, vtepMac }) => ({ lease, subnet, publicIp, vtepMac })),
    );
}

async function peerRows(
  look: Look,
  state: AgentState,
  overlay: OverlayView,
  partners: readonly MeshPartner[],
): Promise<PeerRow[]> {
  const { names, links } = await look.node();
  const peers = peersOf(state).map((peer) => ({ peer, pod: firstPod(peer.subnet) }));
  const ways = await look.waysTo(peers.flatMap(({ peer, pod }) => [pod, peer.publicIp]));
  const tunnels = new Set(links.filter(({ vxlan }) => vxlan !== undefined).map(({ index }) => index));
  const skipped = new Map(overlay.skipped.map(({ name, reason }) => [name, reason]));
  const measured = new Map(partners.map((one) => [`${one.family} ${one.name}`, one]));
  return peers.map(({ peer, pod }) => {
    const [toPod, node] = [ways.get(pod.text), ways.get(peer.publicIp.text)];
    const route = overlay.desired.get(routeKey(peer.subnet));
    const found: PeerWays = {
      way: describeWay(toPod, names),
      wayIsRight: route?.kind === 'route' && isExpected(route, toPod),
      underlayWay: describeWay(node, names),
      underlayReached: node !== undefined && !node.local && !tunnels.has(node.device),
    };
    const { lease, subnet } = peer;
    const mesh = measured.get(`${subnet.family.name} ${lease.name}`);
    return peerRow(peer, { ...overlay, names }, found, { skipped: skipped.get(lease.name), mesh });
  });
}

export async function lookAtRoutes(look: Look): Promise<RoutesAnswer> {
  const agent = await look.agent();
  const { state } = agent;
  if (state === undefined)
    throw new TwillError(
      'unavailable',
      `${agent.why}, and nothing it has written down is beside that: no agent has run here`,
    );
  const overlay = await look.overlay();
  if (overlay === undefined)
    throw new TwillError('unavailable', `this node holds no lease: ${state.source.leaseError ?? 'not yet'}`);
  const { names } = await look.node();
  return {
    version: 1,
    agentAway: agent.why,
    agentStateAt: agent.live ? undefined : state.at,
    // What was measured by one that is away says nothing of now.
    nodes: await peerRows(look, state, overlay, agent.live ? (state.meshPartners ?? []) : []),
    foreign: foreignEntries({ ...overlay, names }, entryName),
  };
}

const tones: Readonly<Record<PartState, Tone>> = {
  ok: 'good',
  missing: 'bad',
  wrong: 'bad',
  foreign: 'poor',
  none: 'faint',
};

const part = (state: PartState): Cell => ({ text: state === 'none' ? '-' : state, tone: tones[state] });

function row(peer: PeerRow): Cell[] {
  const { subnet, underlay, vtepMac, device, route, nexthop, neighbour, fdb, troubles, way } = peer;
  return [
    subnet,
    underlay,
    vtepMac ?? '-',
    device ?? '-',
    ...[route, nexthop, neighbour, fdb].map(part),
    troubles.length === 0 ? way : { text: troubles.join('; '), tone: 'bad' },
  ];
}

/** Rows that a table has of nodes that are well, where there are thousands. */
const MOST_WELL = 200;

function routesTable({ nodes, foreign, agentAway, agentStateAt }: RoutesAnswer, screen: Screen): string {
  const { paint, width } = screen;
  const troubled = nodes.filter(({ troubles }) => troubles.length > 0);
  const well = nodes.filter(({ troubles }) => troubles.length === 0);
  const shown = [...troubled, ...well.slice(0, MOST_WELL)];
  const table = formatTable(
    ['SUBNET', 'NODE', 'VTEP MAC', 'DEVICE', 'ROUTE', 'HOP', 'NEIGH', 'FDB', 'FIRST POD'],
    shown.map(row),
    { paint, width },
  );
  const away =
    agentAway === undefined
      ? ''
      : `${paint(`${agentAway}: compared with what it has written down at ${agentStateAt}`, 'poor')}\n`;
  const more = well.length > MOST_WELL ? `… and ${well.length - MOST_WELL} more nodes, all well\n` : '';
  const others = foreign.map(({ kind, entry }) => `${paint(`foreign ${kind} ${entry}`, 'poor')}\n`);
  const count = `${nodes.length} other nodes, ${troubled.length === 0 ? 'all reached as they should be' : `${troubled.length} not as they should be`}`;
  return `${away}${paint(count, troubled.length === 0 ? 'good' : 'bad')}\n${nodes.length === 0 ? '' : table}${more}${others.join('')}`;
}

/** `twill routes` */
export async function showRoutes(flags: InspectFlags): Promise<void> {
  await show(flags, {
    look: () => looking(flags, lookAtRoutes),
    table: routesTable,
    exitStatus: ({ nodes, foreign }) =>
      foreign.length > 0 || nodes.some(({ troubles }) => troubles.length > 0) ? 1 : 0,
  });
}
