import { type Address, addressFromBytes, macFromBytes } from '../../model/address.ts';
import { hasIpv6 } from '../ipv6.ts';
import { attributeString, attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, RtSocket } from './socket.ts';

/** Parameters of a VXLAN device (IFLA_INFO_DATA of kind vxlan). `port` is the UDP destination port. */
export interface VxlanParameters {
  readonly vni: number;
  readonly port: number;
  readonly local: Address | undefined;
  readonly underlayIndex: number;
  readonly learning: boolean;
  readonly gbp: boolean;
}

/** A network device as RTM_NEWLINK shows it. `master`, `peerIndex` (IFLA_LINK) and `group` are 0 when unset. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly kind: string | undefined;
  readonly up: boolean;
  readonly running: boolean;
  readonly mtu: number;
  readonly mac: string;
  readonly master: number;
  readonly peerIndex: number;
  /** The number that our namespace has for the one `peerIndex` is of; undefined when that is our own. */
  readonly peerNetns?: number | undefined;
  readonly group: number;
  readonly alias: string | undefined;
  readonly vxlan: VxlanParameters | undefined;
  /** Hairpin mode of a bridge port; undefined when the device is not one. */
  readonly hairpin: boolean | undefined;
  /** Of a bridge port: it forwards (BR_STATE_FORWARDING), and it is kept from other isolated ones. */
  readonly forwarding?: boolean | undefined;
  readonly isolated?: boolean | undefined;
  /** Of a bridge: it runs the spanning tree protocol. */
  readonly stp?: boolean | undefined;
}

/** struct ifinfomsg: family, type 0, index, flags and the mask of flags to change. */
export function ifinfo(index: number, flags = 0, change = 0, family = nl.AF_UNSPEC): Buffer {
  const struct = Buffer.alloc(16);
  struct.writeUInt8(family, 0);
  struct.writeInt32LE(index, 4);
  struct.writeUInt32LE(flags, 8);
  struct.writeUInt32LE(change, 12);
  return struct;
}

function parseVxlan(data: Buffer): VxlanParameters {
  const attributes = parseAttributes(data);
  const local = attributes.get(nl.IFLA_VXLAN_LOCAL) ?? attributes.get(nl.IFLA_VXLAN_LOCAL6);
  return {
    vni: attributeU32(attributes.get(nl.IFLA_VXLAN_ID)) ?? 0,
    port: attributes.get(nl.IFLA_VXLAN_PORT)?.readUInt16BE(0) ?? 0,
    local: local === undefined ? undefined : addressFromBytes(local),
    underlayIndex: attributeU32(attributes.get(nl.IFLA_VXLAN_LINK)) ?? 0,
    learning: attributes.get(nl.IFLA_VXLAN_LEARNING)?.[0] === 1,
    gbp: attributes.has(nl.IFLA_VXLAN_GBP),
  };
}

const BR_STATE_FORWARDING = 3;

function runsStp(bridge: Buffer): boolean {
  return (attributeU32(parseAttributes(bridge).get(nl.IFLA_BR_STP_STATE)) ?? 0) !== 0;
}

/** Reads RTM_NEWLINK or RTM_DELLINK; undefined for other messages and for the bridge's own per-port notices. */
export function parseLink(message: Message): Link | undefined {
  if (message.type !== nl.RTM_NEWLINK && message.type !== nl.RTM_DELLINK) return undefined;
  const { payload } = message;
  if (payload.length < 16 || payload[0] === nl.AF_BRIDGE) return undefined;
  const attributes = parseAttributes(payload, 16);
  const info = parseAttributes(attributes.get(nl.IFLA_LINKINFO) ?? Buffer.alloc(0));
  const kind = attributeString(info.get(nl.IFLA_INFO_KIND));
  const data = info.get(nl.IFLA_INFO_DATA);
  const isPort = attributeString(info.get(nl.IFLA_INFO_SLAVE_KIND)) === 'bridge';
  const port = isPort ? parseAttributes(info.get(nl.IFLA_INFO_SLAVE_DATA) ?? Buffer.alloc(0)) : undefined;
  const flags = payload.readUInt32LE(8);
  return {
    index: payload.readInt32LE(4),
    name: attributeString(attributes.get(nl.IFLA_IFNAME)) ?? '',
    kind,
    up: (flags & nl.IFF_UP) !== 0,
    running: (flags & nl.IFF_LOWER_UP) !== 0,
    mtu: attributeU32(attributes.get(nl.IFLA_MTU)) ?? 0,
    mac: macFromBytes(attributes.get(nl.IFLA_ADDRESS) ?? Buffer.alloc(0)),
    master: attributeU32(attributes.get(nl.IFLA_MASTER)) ?? 0,
    peerIndex: attributeU32(attributes.get(nl.IFLA_LINK)) ?? 0,
    peerNetns: attributeU32(attributes.get(nl.IFLA_LINK_NETNSID)),
    group: attributeU32(attributes.get(nl.IFLA_GROUP)) ?? 0,
    alias: attributeString(attributes.get(nl.IFLA_IFALIAS)),
    vxlan: kind === 'vxlan' && data !== undefined ? parseVxlan(data) : undefined,
    hairpin:
      port?.get(nl.IFLA_BRPORT_MODE) === undefined ? undefined : port.get(nl.IFLA_BRPORT_MODE)?.[0] === 1,
    forwarding: port && port.get(nl.IFLA_BRPORT_STATE)?.[0] === BR_STATE_FORWARDING,
    isolated: port && port.get(nl.IFLA_BRPORT_ISOLATED)?.[0] === 1,
    stp: kind === 'bridge' && data !== undefined ? runsStp(data) : undefined,
  };
}

/** All devices of the socket's namespace. */
export function listLinks(socket: RtSocket): Promise<Link[]> {
  return socket.list({
    request: { what: 'list devices', write: (to) => to.message(nl.RTM_GETLINK).struct(ifinfo(0)) },
    read: parseLink,
  });
}

export async function findLink(socket: RtSocket, name: string): Promise<Link | undefined> {
  return (await listLinks(socket)).find((link) => link.name === name);
}

/** What {@link setLink} can change; absent fields stay as they are. `master` 0 takes the device out of its bridge. */
export interface LinkSettings {
  readonly up?: boolean;
  readonly promiscuous?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  readonly master?: number;
  readonly name?: string;
  readonly group?: number;
  readonly alias?: string;
  /** File descriptor of the network namespace to move the device to. */
  readonly netnsFd?: number;
  /**
   * IN6_ADDR_GEN_MODE_*: NONE keeps the kernel from making a link-local address. Only for a device that exists: in
   * the message that creates it the kernel answers EAFNOSUPPORT. Left out where the kernel has no IPv6.
   */
  readonly addressGenMode?: number;
}

export type NewLink = LinkSettings & { readonly name: string };

/** IPV6_MIN_MTU: the kernel takes IPv6, and its settings, from a device whose MTU is smaller (addrconf_notify). */
const IPV6_MIN_MTU = 1280;

/** No link-local address for a device of this MTU that exists; where it has no IPv6 at all there is nothing to say. */
export function withoutLinkLocal(mtu: number): Pick<LinkSettings, 'addressGenMode'> {
  return mtu < IPV6_MIN_MTU ? {} : { addressGenMode: nl.IN6_ADDR_GEN_MODE_NONE };
}

function writeSettings(writer: MessageWriter, settings: LinkSettings): MessageWriter {
  if (settings.name !== undefined) writer.string(nl.IFLA_IFNAME, settings.name);
  if (settings.mtu !== undefined) writer.u32(nl.IFLA_MTU, settings.mtu);
  if (settings.mac !== undefined) writer.mac(nl.IFLA_ADDRESS, settings.mac);
  if (settings.master !== undefined) writer.u32(nl.IFLA_MASTER, settings.master);
  if (settings.group !== undefined) writer.u32(nl.IFLA_GROUP, settings.group);
  if (settings.alias !== undefined) writer.string(nl.IFLA_IFALIAS, settings.alias);
  if (settings.netnsFd !== undefined) writer.u32(nl.IFLA_NET_NS_FD, settings.netnsFd);
  if (settings.addressGenMode !== undefined && hasIpv6()) {
    writer
      .begin(nl.IFLA_AF_SPEC)
      .begin(nl.AF_INET6)
      .u8(nl.IFLA_INET6_ADDR_GEN_MODE, settings.addressGenMode)
      .end()
      .end();
  }
  return writer;
}

/** Flags to set, and the mask of those that change. */
function flagsOf({ up, promiscuous }: LinkSettings): [number, number] {
  const set = (up === true ? nl.IFF_UP : 0) | (promiscuous === true ? nl.IFF_PROMISC : 0);
  const change = (up === undefined ? 0 : nl.IFF_UP) | (promiscuous === undefined ? 0 : nl.IFF_PROMISC);
  return [set, change];
}

export function setLink(index: number, settings: LinkSettings, label = `device ${index}`): Change {
  return {
    what: `change ${label}`,
    write: (to) =>
      writeSettings(to.message(nl.RTM_NEWLINK).struct(ifinfo(index, ...flagsOf(settings))), settings),
  };
}

/** The beginning of a message that makes a device. */
export function createLink(to: MessageWriter, settings: NewLink): MessageWriter {
  to.message(nl.RTM_NEWLINK, nl.NLM_F_CREATE | nl.NLM_F_EXCL).struct(ifinfo(0, ...flagsOf(settings)));
  return writeSettings(to, settings);
}

/** A device of a kind that needs no more than that. */
export function createDevice(kind: 'bridge' | 'ifb', settings: NewLink): Change {
  return {
    what: `create ${kind} ${settings.name}`,
    write: (to) => createLink(to, settings).begin(nl.IFLA_LINKINFO).string(nl.IFLA_INFO_KIND, kind).end(),
  };
}

/**
 * A veth pair: `settings` describe this end, `peer` the other. With `peer.netnsFd` the other end is born inside that
 * namespace, so it never shows up in ours.
 */
export function createVeth(settings: NewLink, peer: NewLink): Change {
  const write = (to: MessageWriter): void => {
    createLink(to, settings).begin(nl.IFLA_LINKINFO).string(nl.IFLA_INFO_KIND, 'veth');
    to.begin(nl.IFLA_INFO_DATA)
      .begin(nl.VETH_INFO_PEER)
      .struct(ifinfo(0, ...flagsOf(peer)));
    writeSettings(to, peer).end().end().end();
  };
  return { what: `create veth pair ${settings.name}/${peer.name}`, write };
}

export function deleteLink(index: number, label = `device ${index}`): Change {
  return {
    what: `delete ${label}`,
    write: (to) => to.message(nl.RTM_DELLINK).struct(ifinfo(index)),
  };
}

/** Deletes every device of the group in one kernel grace period (rtnl_group_dellink). `group` must not be 0. */
export function deleteLinkGroup(group: number): Change {
  return {
    what: `delete devices of group ${group}`,
    write: (to) => to.message(nl.RTM_DELLINK).struct(ifinfo(0)).u32(nl.IFLA_GROUP, group),
  };
}

/** How a bridge treats a port: an isolated one exchanges frames only with ports that are not. */
export interface BridgePort {
  /** Whether a frame may go back out of the port it came in on. */
  readonly hairpin: boolean;
  readonly isolated?: boolean | undefined;
  /** The device's. */
  readonly mtu: number;
}

/**
 * Sets up a device that was just made a bridge port, found by name; and no link-local address of its own (a port needs
 * none, and would only make multicast noise). An alias belongs here, too: the kernel ignores one in the message that makes
 * a device.
 */
export function setBridgePort(name: string, { hairpin, isolated, mtu }: BridgePort, alias?: string): Change {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_NEWLINK).struct(ifinfo(0));
    const named = alias === undefined ? {} : { alias };
    writeSettings(to, { name, ...withoutLinkLocal(mtu), ...named });
    to.begin(nl.IFLA_LINKINFO).string(nl.IFLA_INFO_SLAVE_KIND, 'bridge').begin(nl.IFLA_INFO_SLAVE_DATA);
    to.u8(nl.IFLA_BRPORT_MODE, hairpin ? 1 : 0);
    if (isolated !== undefined) to.u8(nl.IFLA_BRPORT_ISOLATED, isolated ? 1 : 0);
    to.end().end();
  };
  return { what: `set up bridge port ${name}`, write };
}

/**
 * Asks for one device, for the sake of what the kernel does first: it brings the device's carrier state up to date
 * (linkwatch_sync_dev in rtnl_getlink), so that a bridge forwards from a port whose other end has just gone up. Kernels
 * before 6.9 do that by themselves a moment later.
 */
export function syncCarrier(name: string): Change {
  return {
    what: `look at ${name}`,
    write: (to) => to.message(nl.RTM_GETLINK).struct(ifinfo(0)).string(nl.IFLA_IFNAME, name),
  };
}
