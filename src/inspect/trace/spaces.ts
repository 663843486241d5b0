import { findNamespaces } from '../../kernel/find-namespaces.ts';
import { listAddresses } from '../../kernel/netlink/addresses.ts';
import { RT_SCOPE_HOST } from '../../kernel/netlink/constants.ts';
import { type Link, listLinks } from '../../kernel/netlink/links.ts';
import { netnsNumber } from '../../kernel/netlink/netns-ids.ts';
import { RtSocket } from '../../kernel/netlink/socket.ts';
import { closeNetns, inNetns, type Netns, openNetns } from '../../kernel/netns.ts';
import { isLinkLocal, parseAddress } from '../../model/address.ts';
import type { Device, Peer, Resident } from './plan/questions.ts';

/** A network namespace that is looked into. */
export interface LookedSpace {
  readonly id: string;
  /** The namespace; undefined for our own. */
  readonly netns: Netns | undefined;
  readonly socket: RtSocket;
  readonly links: readonly Link[];
  readonly devices: readonly Device[];
}

function deviceOf(
  link: Link,
  links: readonly Link[],
  addresses: Awaited<ReturnType<typeof listAddresses>>,
): Device {
  const named = (index: number): string | undefined => links.find((one) => one.index === index)?.name;
  const { vxlan, hairpin, forwarding = true, isolated = false } = link;
  return {
    name: link.name,
    kind: link.kind,
    up: link.up,
    running: link.running,
    mtu: link.mtu,
    mac: link.mac,
    addresses: addresses
      .filter(({ index, scope }) => index === link.index && scope < RT_SCOPE_HOST)
      .map(({ address, length }) => ({ address: address.text, length })),
    master: link.master === 0 ? undefined : named(link.master),
    port: hairpin === undefined ? undefined : { forwarding, hairpin, isolated },
    vxlan: vxlan && {
      vni: vxlan.vni,
      port: vxlan.port,
      local: vxlan.local?.text,
      underlay: named(vxlan.underlayIndex),
    },
  };
}

async function lookInto(id: string, netns: Netns | undefined): Promise<LookedSpace> {
  const socket = netns === undefined ? new RtSocket() : inNetns(netns, () => new RtSocket());
  const [links, addresses] = await Promise.all([listLinks(socket), listAddresses(socket)]);
  return { id, netns, socket, links, devices: links.map((link) => deviceOf(link, links, addresses)) };
}

/** The node's namespace, and those that the other ends of its devices are in. Closed as a whole. */
export class Spaces {
  readonly node: LookedSpace;
  private readonly spaces = new Map<string, Promise<LookedSpace>>();
  private others: Promise<ReadonlyMap<number, Netns>> | undefined;
  private readonly opened: Netns[] = [];

  private constructor(node: LookedSpace) {
    this.node = node;
    this.spaces.set('node', Promise.resolve(node));
  }

  static async open(): Promise<Spaces> {
    return new Spaces(await lookInto('node', undefined));
  }

  /** @throws Error for an id that no answer has named */
  async get(id: string): Promise<LookedSpace> {
    const space = this.spaces.get(id);
    if (space === undefined) throw new Error(`no namespace ${id}`);
    return await space;
  }

  /** Takes a pod's namespace up by its path. @throws TwillError as `openNetns` does */
  async enter(path: string): Promise<string> {
    const netns = openNetns(path);
    this.opened.push(netns);
    return await this.add(netns);
  }

  private async add(netns: Netns): Promise<string> {
    const id = `netns ${netns.id}`;
    if (!this.spaces.has(id)) this.spaces.set(id, lookInto(id, netns));
    await this.spaces.get(id);
    return id;
  }

  /** Namespaces of the other ends of the node's devices, by the numbers that the node has for them. */
  private far(): Promise<ReadonlyMap<number, Netns>> {
    const numbers = this.node.links.flatMap((link) => (isFollowed(link, this.node) ? [link.peerNetns!] : []));
    this.others ??= findNamespaces(this.node.socket, new Set(numbers)).then((found) => {
      this.opened.push(...found.values());
      return found;
    });
    return this.others;
  }

  /** The other end of a device; undefined where it cannot be looked into. */
  async peer(id: string, name: string): Promise<Peer | undefined> {
    return id === 'node' ? await this.peerOfNode(name) : await this.peerOfPod(id, name);
  }

  private async peerOfNode(name: string): Promise<Peer | undefined> {
    const link = this.node.links.find((one) => one.name === name);
    if (link === undefined || !isFollowed(link, this.node)) return undefined;
    const netns = (await this.far()).get(link.peerNetns!);
    if (netns === undefined) return undefined;
    const id = await this.add(netns);
    const space = await this.get(id);
    const far = space.links.find(({ index }) => index === link.peerIndex);
    return far && { space: id, device: far.name };
  }

  private async peerOfPod(id: string, name: string): Promise<Peer | undefined> {
    const space = await this.get(id);
    const link = space.links.find((one) => one.name === name);
    if (link === undefined || space.netns === undefined) return undefined;
    const number = await netnsNumber(this.node.socket, space.netns).catch(() => undefined);
    const near = this.node.links.find(
      ({ index, peerNetns }) => index === link.peerIndex && peerNetns !== undefined && peerNetns === number,
    );
    return near && { space: 'node', device: near.name };
  }

  /** Everybody behind devices of the node. */
  async residents(): Promise<Resident[]> {
    const found: Resident[] = [];
    for (const { name: port, master: bridge } of this.node.devices) {
      const peer = await this.peerOfNode(port);
      if (peer === undefined) continue;
      const device = (await this.get(peer.space)).devices.find(({ name }) => name === peer.device)!;
      const addresses = device.addresses.map(({ address }) => address);
      found.push({
        port,
        bridge,
        space: peer.space,
        device: device.name,
        mac: device.mac,
        up: device.up,
        addresses,
      });
    }
    return found;
  }

  async close(): Promise<void> {
    for (const space of this.spaces.values()) (await space.catch(() => undefined))?.socket.close();
    for (const netns of this.opened.splice(0)) closeNetns(netns);
  }
}

/**
 * Whether a device's other end is a pod, and not the rest of the world: a bridge's port, or without an address of its own
 * (what a machine that is itself a namespace has is its uplink).
 */
function isFollowed({ kind, name, master, peerNetns }: Link, node: LookedSpace): boolean {
  if (kind !== 'veth' || peerNetns === undefined) return false;
  const own = node.devices.find((one) => one.name === name)?.addresses ?? [];
  return master !== 0 || own.every(({ address }) => isLinkLocal(parseAddress(address)));
}
