import { hasIpv6 } from '../kernel/ipv6.ts';
import { type InterfaceAddress, listAddresses } from '../kernel/netlink/addresses.ts';
import { type Link, listLinks } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { families, ipv4 } from '../model/address.ts';
import { listOverlay } from '../overlay/kernel.ts';
import { vxlanName } from '../overlay/plan/device.ts';
import type { Entries, EntryMap } from '../overlay/plan/entries.ts';
import type { FamilyPath, SkippedLease } from '../overlay/plan/peer.ts';
import { PeerPlanner } from '../overlay/plan/planner.ts';
import type { DeviceNames } from './plan/entries.ts';
import type { AgentState, PathState } from './plan/state.ts';

/** The node's devices and addresses. */
export interface NodeView {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly names: DeviceNames;
}

/** What the kernel holds for the other nodes, and what it should. */
export interface OverlayView {
  readonly desired: EntryMap;
  readonly actual: Entries;
  readonly skipped: readonly SkippedLease[];
}

export async function readNode(socket: RtSocket): Promise<NodeView> {
  const links = await listLinks(socket);
  const addresses: InterfaceAddress[] = [];
  for (const family of hasIpv6() ? families : [ipv4])
    addresses.push(...(await listAddresses(socket, family)));
  return { links, addresses, names: new Map(links.map(({ index, name }) => [index, name])) };
}

/** What is planned for a device that does not stand. */
const NO_DEVICE = -1;

/** A device that was made anew has another index: entries are compared with those of the one that stands now. */
function currentPath(path: PathState, state: AgentState, links: readonly Link[]): FamilyPath {
  const { backend } = state.network ?? {};
  const name = backend?.type === 'vxlan' ? vxlanName(path.family, backend.vni) : undefined;
  const standing = links.find((link) => link.name === name && link.vxlan !== undefined);
  return {
    ...path,
    vxlan: name === undefined ? undefined : (standing?.index ?? path.vxlan ?? NO_DEVICE),
    onLink: ({ text }) => path.onLink.get(text),
  };
}

/** @returns undefined where it is not known what should stand: no lease, or nothing that an agent has left */
export async function readOverlay(
  socket: RtSocket,
  state: AgentState,
  { links }: NodeView,
): Promise<OverlayView | undefined> {
  const { own, network, ground } = state;
  if (own === undefined || network === undefined || ground === undefined) return undefined;
  const paths = state.paths.map((path) => currentPath(path, state, links));
  const planner = new PeerPlanner({ own, paths, backend: network.backend, ground });
  const desired = planner.desired(new Map(state.leases.map((lease) => [lease.name, lease])));
  const devices = new Set(paths.flatMap(({ vxlan }) => vxlan ?? []));
  // Of a device that is not there nothing can be listed.
  const listed = paths.map((path) =>
    links.some(({ index }) => index === path.vxlan) ? path : { ...path, vxlan: undefined },
  );
  const actual = await listOverlay(socket, listed, { devices, networks: ground.networks }, desired);
  return { desired, actual, skipped: planner.skipped() };
}
