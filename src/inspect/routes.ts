import { lookUpRoutes, type RouteAnswer } from '../kernel/netlink/route-lookup.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import type { MeshPartner } from '../mesh/plan/state.ts';
import { type Address, families } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import { routeKey } from '../overlay/plan/entries.ts';
import { type Answer, type InspectFlags, type Screen, show } from './output.ts';
import { type NodeView, type OverlayView, readNode, readOverlay } from './overlay.ts';
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
import { agentState } from './states.ts';
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

/** Asks for all addresses of both families at once, in their order. */
async function askWays(
  socket: RtSocket,
  addresses: readonly Address[],
): Promise<(RouteAnswer | undefined)[]> {
  const answers = new Map<Address, RouteAnswer | undefined>();
  for (const family of families) {
    const own = addresses.filter((address) => address.family === family);
    if (own.length === 0) continue;
    const found = await lookUpRoutes(socket, own);
    own.forEach((address, index) => {
      answers.set(address, found[index]);
    });
  }
  return addresses.map((address) => answers.get(address));
}

async function peerRows(
  socket: RtSocket,
  state: AgentState,
  overlay: OverlayView,
  { names, links }: NodeView,
  partners: readonly MeshPartner[],
): Promise<PeerRow[]> {
  const peers = peersOf(state);
  const pods = await askWays(
    socket,
    peers.map(({ subnet }) => firstPod(subnet)),
  );
  const nodes = await askWays(
    socket,
    peers.map(({ publicIp }) => publicIp),
  );
  const tunnels = new Set(links.filter(({ vxlan }) => vxlan !== undefined).map(({ index }) => index));
  const skipped = new Map(overlay.skipped.map(({ name, reason }) => [name, reason]));
  const measured = new Map(partners.map((one) => [`${one.family} ${one.name}`, one]));
  return peers.map((peer, index) => {
    const [pod, node] = [pods[index], nodes[index]];
    const route = overlay.desired.get(routeKey(peer.subnet));
    const ways: PeerWays = {
      way: describeWay(pod, names),
      wayIsRight: route?.kind === 'route' && isExpected(route, pod),
      underlayWay: describeWay(node, names),
      underlayReached: node !== undefined && !node.local && !tunnels.has(node.device),
    };
    const { lease, subnet } = peer;
    const mesh = measured.get(`${subnet.family.name} ${lease.name}`);
    return peerRow(peer, { ...overlay, names }, ways, { skipped: skipped.get(lease.name), mesh });
  });
}

export async function lookAtRoutes(socketPath: string): Promise<RoutesAnswer> {
  const agent = await agentState(socketPath);
  const { state } = agent;
  if (state === undefined)
    throw new TwillError(
      'unavailable',
      `${agent.why}, and nothing it has written down is beside that: no agent has run here`,
    );
  const socket = new RtSocket();
  try {
    const node = await readNode(socket);
    const overlay = await readOverlay(socket, state, node);
    if (overlay === undefined)
      throw new TwillError(
        'unavailable',
        `this node holds no lease: ${state.source.leaseError ?? 'not yet'}`,
      );
    return {
      version: 1,
      agentAway: agent.why,
      agentStateAt: agent.live ? undefined : state.at,
      // What was measured by one that is away says nothing of now.
      nodes: await peerRows(socket, state, overlay, node, agent.live ? (state.meshPartners ?? []) : []),
      foreign: foreignEntries({ ...overlay, names: node.names }, entryName),
    };
  } finally {
    socket.close();
  }
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

export function routesTable(
  { nodes, foreign, agentAway, agentStateAt }: RoutesAnswer,
  screen: Screen,
): string {
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
    look: () => lookAtRoutes(flags.socket),
    table: routesTable,
    exitStatus: ({ nodes, foreign }) =>
      foreign.length > 0 || nodes.some(({ troubles }) => troubles.length > 0) ? 1 : 0,
  });
}
