import { kernelFamilies } from '../kernel/ipv6.ts';
import { type InterfaceAddress, isForOthers, listAddresses } from '../kernel/netlink/addresses.ts';
import { type Link, listLinks } from '../kernel/netlink/links.ts';
import { hasNexthops } from '../kernel/netlink/nexthops.ts';
import { lookUpRoute, matchRoute } from '../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Address, type Family, parseAddress } from '../model/address.ts';
import type { HostNetwork, HostPath } from './plan/host-network.ts';

/** What {@link listHost} finds, as the netlink layer knows it. */
export interface ListedHost extends HostNetwork {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** The kernel has nexthop objects. */
  readonly nexthops: boolean;
  /** On the ways to the outside. */
  readonly gateways: readonly Address[];
}

/**
 * Addresses in the outside, whatever the network: name servers of the root zone and others as old. The kernel is asked
 * how it would get there; nothing is sent. A default route may come in two halves, so there are some in each; and a host
 * may keep packets from such well-known addresses (a blackhole, a rule), so there are several.
 */
const outside: Readonly<Record<Family['name'], readonly Address[]>> = {
  ipv4: ['8.8.8.8', '198.41.0.4', '1.1.1.1', '192.5.5.241', '77.88.8.8', '199.7.83.42'].map(parseAddress),
  ipv6: ['2001:503:ba3e::2:30', '2606:4700:4700::1111', '2a02:6b8::feed:ff', '2400:cb00::1'].map(
    parseAddress,
  ),
};

/** Devices that a route with several next hops may use besides the one that the kernel names: those that we may use. */
function eligible(links: readonly Link[], addresses: readonly InterfaceAddress[], known: number | undefined) {
  const used = links.flatMap(({ vxlan }) => vxlan?.underlayIndex ?? []);
  return links.filter(
    ({ index, up, vxlan }) =>
      up &&
      vxlan === undefined &&
      (index === known || used.includes(index) || addresses.some((address) => address.index === index)),
  );
}

/** @returns how packets to the address leave; undefined when they cannot, or stay here */
async function findPath(
  socket: RtSocket,
  address: Address,
  candidates: readonly Link[],
): Promise<HostPath | undefined> {
  const answer = await lookUpRoute(socket, address);
  const match = await matchRoute(socket, address);
  if (answer === undefined || match === undefined || answer.local) return undefined;
  const { device, source, gateway } = answer;
  const devices = [device];
  for (const { index } of candidates) {
    if (index === device) continue;
    // A route to there by this device that is as good is the same one's other next hop, or its equal.
    const other = await matchRoute(socket, address, { device: index });
    if (other?.rank === match.rank) devices.push(index);
  }
  return { family: address.family, device, devices, source, preferred: match.source, gateway };
}

/** A kernel without IPv6 is not asked about it. */
async function pathTo(
  socket: RtSocket,
  text: string | undefined,
  candidates: readonly Link[],
): Promise<HostPath | undefined> {
  const address = text === undefined ? undefined : parseAddress(text);
  if (address === undefined || !kernelFamilies().includes(address.family)) return undefined;
  return findPath(socket, address, candidates);
}

/**
 * Interfaces, their addresses that others may reach, and the ways to the outside and to `canReach`.
 * @param canReach the address of --iface-can-reach
 * @param known index of the underlay device so far
 */
export async function listHost(
  socket: RtSocket,
  families: readonly Family[],
  canReach?: string,
  known?: number,
): Promise<ListedHost> {
  const links = await listLinks(socket);
  const addresses: InterfaceAddress[] = [];
  for (const family of families) addresses.push(...(await listAddresses(socket, family)));
  const reached = addresses.filter(isForOthers);
  const candidates = eligible(links, reached, known);
  const paths: HostPath[] = [];
  for (const family of families) {
    for (const address of outside[family.name]) {
      const path = await findPath(socket, address, candidates);
      if (path === undefined) continue;
      paths.push(path);
      break;
    }
  }
  return {
    links,
    addresses: reached,
    outside: paths,
    nexthops: await hasNexthops(socket),
    gateways: paths.flatMap(({ gateway }) => gateway ?? []),
    canReach: await pathTo(socket, canReach, candidates),
  };
}
