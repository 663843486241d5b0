import { findNamespaces } from '../../kernel/find-namespaces.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { listAddresses } from '../../kernel/netlink/addresses.ts';
import { RT_SCOPE_LINK } from '../../kernel/netlink/constants.ts';
import { type Link, listLinks } from '../../kernel/netlink/links.ts';
import { neighboursOf } from '../../kernel/netlink/neighbours.ts';
import { listQdiscs } from '../../kernel/netlink/qdiscs.ts';
import { routesOf } from '../../kernel/netlink/routes.ts';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { closeNetns, inNetns, type Netns } from '../../kernel/netns.ts';
import { families } from '../../model/address.ts';
import { limitOf } from '../plan/bandwidth.ts';
import type { Inside, Limit, Resident } from '../plan/resident.ts';

/** Looks at the other end of a pod's device, in the pod. @returns undefined when it is not there any more */
async function lookInside(netns: Netns, index: number): Promise<Inside | undefined> {
  const pod = inNetns(netns, () => new RtSocket());
  try {
    const link = (await listLinks(pod)).find((one) => one.index === index);
    if (link === undefined) return undefined;
    const addresses = (await listAddresses(pod)).filter(
      (one) => one.index === index && one.scope < RT_SCOPE_LINK,
    );
    const used = families.filter((family) => addresses.some(({ address }) => address.family === family));
    const routes = (await Promise.all(used.map((family) => pod.list(routesOf(family))))).flat();
    return {
      netns: netns.path,
      netnsId: netns.id,
      ifname: link.name,
      mac: link.mac,
      mtu: link.mtu,
      addresses: addresses.map(({ address, length }) => `${address.text}/${length}`),
      routes: routes
        .filter(({ device, gateway }) => device === index && gateway !== undefined)
        .map(({ destination }) => destination.text),
    };
  } finally {
    pod.close();
  }
}

/** Addresses that the bridges' neighbour tables show: the best there is of a pod that cannot be entered. */
async function neighbourAddresses(socket: RtSocket, bridges: readonly Link[]): Promise<string[]> {
  const lists = bridges.flatMap(({ index }) =>
    kernelFamilies().map((family) => socket.list(neighboursOf(family, index)).catch(() => [])),
  );
  const known = (await Promise.all(lists)).flat().filter(({ mac }) => mac !== undefined);
  return known.map(({ address }) => address.text);
}

export interface Residents {
  readonly found: readonly Resident[];
  /** Addresses that those may have which could not be entered. */
  readonly suspected: readonly string[];
  /** The limits that stand, by the names of the devices that keep them. */
  readonly limits: ReadonlyMap<string, Limit>;
}

async function readLimits(socket: RtSocket, links: readonly Link[]): Promise<Map<string, Limit>> {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const limits = new Map<string, Limit>();
  for (const { index, root, rate, limit } of await listQdiscs(socket))
    if (root && rate !== undefined && limit !== undefined)
      limits.set(names.get(index) ?? '', limitOf({ rate, limit }));
  return limits;
}

/**
 * Looks at the pods that stand, whoever made them: every veth of the node whose other end is in another namespace.
 * @param known names of devices that need no look
 */
export async function readResidents(socket: RtSocket, known: ReadonlySet<string>): Promise<Residents> {
  const links = await listLinks(socket);
  const unknown = links.filter(
    ({ kind, name, peerNetns }) => kind === 'veth' && peerNetns !== undefined && !known.has(name),
  );
  if (unknown.length === 0) return { found: [], suspected: [], limits: new Map() };
  const bridges = links.filter(({ kind }) => kind === 'bridge');
  const namespaces = await findNamespaces(socket, new Set(unknown.map(({ peerNetns = 0 }) => peerNetns)));
  try {
    const found: Resident[] = [];
    for (const { name, alias, master, hairpin, isolated, peerNetns = 0, peerIndex } of unknown) {
      const netns = namespaces.get(peerNetns);
      const inside = netns && (await lookInside(netns, peerIndex).catch(() => undefined));
      const bridge = bridges.find(({ index }) => index === master)?.name ?? '';
      const port = { hairpin: hairpin ?? false, isolated: isolated ?? false };
      found.push({ hostVeth: name, alias, bridge, ...port, inside });
    }
    const whole = found.every(({ inside }) => inside !== undefined);
    const suspected = whole ? [] : await neighbourAddresses(socket, bridges);
    return { found, suspected, limits: await readLimits(socket, links) };
  } finally {
    for (const netns of namespaces.values()) closeNetns(netns);
  }
}
