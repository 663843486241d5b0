import { type Address, addressFromBytes, type Family, macFromBytes } from '../../model/address.ts';
import { isTwillError } from '../../model/error.ts';
import { KernelRefusal } from '../errno.ts';
import { type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, Listing, RtSocket } from './socket.ts';

/** An ARP or NDP entry: `state` is a set of NUD_* bits. */
export interface Neighbour {
  readonly device: number;
  readonly address: Address;
  readonly mac: string | undefined;
  readonly state: number;
}

/** A VXLAN forwarding entry: frames to `mac` are sent to `destination`. One MAC may have several destinations. */
export interface FdbEntry {
  readonly device: number;
  readonly mac: string;
  readonly destination: Address | undefined;
  readonly state: number;
}

/** struct ndmsg */
function ndmsg(family: number, device: number, state: number, flags: number): number[] {
  return [family, 0, 0, 0, device, device >> 8, device >> 16, device >> 24, state, state >> 8, flags, 0];
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH as an ARP or NDP entry; undefined for everything else. */
export function parseNeighbour(message: Message): Neighbour | undefined {
  if (message.type !== nl.RTM_NEWNEIGH && message.type !== nl.RTM_DELNEIGH) return undefined;
  const { payload } = message;
  if (payload.length < 12 || (payload[0] !== nl.AF_INET && payload[0] !== nl.AF_INET6)) return undefined;
  const attributes = parseAttributes(payload, 12);
  const address = attributes.get(nl.NDA_DST);
  if (address === undefined) return undefined;
  const mac = attributes.get(nl.NDA_LLADDR);
  return {
    device: payload.readInt32LE(4),
    address: addressFromBytes(address),
    mac: mac === undefined ? undefined : macFromBytes(mac),
    state: payload.readUInt16LE(8),
  };
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH as a VXLAN device's own forwarding entry; undefined for everything else. */
export function parseFdbEntry(message: Message): FdbEntry | undefined {
  if (message.type !== nl.RTM_NEWNEIGH && message.type !== nl.RTM_DELNEIGH) return undefined;
  const { payload } = message;
  if (payload.length < 12 || payload[0] !== nl.AF_BRIDGE) return undefined;
  if ((payload.readUInt8(10) & nl.NTF_SELF) === 0) return undefined;
  const attributes = parseAttributes(payload, 12);
  const mac = attributes.get(nl.NDA_LLADDR);
  const destination = attributes.get(nl.NDA_DST);
  if (mac === undefined) return undefined;
  return {
    device: payload.readInt32LE(4),
    mac: macFromBytes(mac),
    destination: destination === undefined ? undefined : addressFromBytes(destination),
    state: payload.readUInt16LE(8),
  };
}

/** ARP (IPv4) or NDP (IPv6) entries of one device. */
export function neighboursOf(family: Family, device: number): Listing<Neighbour> {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETNEIGH)
      .struct(ndmsg(family.af, 0, 0, 0))
      .u32(nl.NDA_IFINDEX, device);
  };
  return {
    request: { what: 'list neighbours', write },
    read: (answer) => ofDevice(parseNeighbour(answer), device),
  };
}

/**
 * Asks for one entry (neigh_get, rtnl_fdb_get), and kernels before 5.0, which know lists alone, for all.
 * @param listing reads the one that is meant, and nothing else
 * @returns undefined where there is none
 */
async function findOne<T>(socket: RtSocket, question: Change, listing: Listing<T>): Promise<T | undefined> {
  try {
    return listing.read(await socket.ask(question));
  } catch (error) {
    if (isTwillError(error, 'not-found')) return undefined;
    if (!(error instanceof KernelRefusal && error.errno === 'EOPNOTSUPP')) throw error;
    return (await socket.list(listing))[0];
  }
}

/** Asks for one ARP (IPv4) or NDP (IPv6) entry. @returns undefined where there is none */
export function findNeighbour(
  socket: RtSocket,
  device: number,
  address: Address,
): Promise<Neighbour | undefined> {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETNEIGH)
      .struct(ndmsg(address.family.af, device, 0, 0))
      .address(nl.NDA_DST, address);
  };
  const { request, read } = neighboursOf(address.family, device);
  const only = (answer: Message): Neighbour | undefined => {
    const entry = read(answer);
    return entry?.address.text === address.text ? entry : undefined;
  };
  return findOne(socket, { what: `look up neighbour ${address.text}`, write }, { request, read: only });
}

/** @param device 0 for those of all devices */
function listForwarding(device: number): Change {
  // For PF_BRIDGE the kernel reads the header as struct ifinfomsg and filters by its index (valid_fdb_dump_legacy).
  const header = Buffer.alloc(16);
  header.writeUInt8(nl.AF_BRIDGE, 0);
  header.writeInt32LE(device, 4);
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETNEIGH).struct(header);
  };
  return { what: 'list forwarding entries', write };
}

/** Forwarding entries of one VXLAN device. */
export function fdbOf(device: number): Listing<FdbEntry> {
  return {
    request: listForwarding(device),
    read: (answer) => ofDevice(parseFdbEntry(answer), device),
  };
}

function ofDevice<T extends { readonly device: number }>(
  entry: T | undefined,
  device: number,
): T | undefined {
  return entry?.device === device ? entry : undefined;
}

/** Sets a permanent entry, replacing whatever is there for the address. */
export function setNeighbour(device: number, address: Address, mac: string): Change {
  return {
    what: `set neighbour ${address.text}`,
    write: (to) =>
      to
        .message(nl.RTM_NEWNEIGH, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
        .struct(ndmsg(address.family.af, device, nl.NUD_PERMANENT, 0))
        .address(nl.NDA_DST, address)
        .mac(nl.NDA_LLADDR, mac),
  };
}

/** Has the kernel ask for the address, as if a packet were to go there. */
export function askNeighbour(device: number, address: Address): Change {
  return {
    what: `ask for neighbour ${address.text}`,
    write: (to) =>
      to
        .message(nl.RTM_NEWNEIGH, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
        .struct(ndmsg(address.family.af, device, 0, nl.NTF_USE))
        .address(nl.NDA_DST, address),
  };
}

export function deleteNeighbour(device: number, address: Address): Change {
  return {
    what: `delete neighbour ${address.text}`,
    write: (to) =>
      to
        .message(nl.RTM_DELNEIGH)
        .struct(ndmsg(address.family.af, device, 0, 0))
        .address(nl.NDA_DST, address),
  };
}

/** One (MAC, destination) entry of a VXLAN device, given by interface index. */
interface FdbPlan {
  readonly device: number;
  readonly mac: string;
  readonly destination: Address | undefined;
}

function writeFdb(to: MessageWriter, type: number, flags: number, plan: FdbPlan): void {
  to.message(type, flags)
    .struct(ndmsg(nl.AF_BRIDGE, plan.device, nl.NUD_NOARP | nl.NUD_PERMANENT, nl.NTF_SELF))
    .mac(nl.NDA_LLADDR, plan.mac);
  if (plan.destination !== undefined) to.address(nl.NDA_DST, plan.destination);
}

/**
 * Makes `destination` the place frames to `mac` go to (NLM_F_REPLACE). A unicast MAC has one: the kernel takes a further
 * one (NLM_F_APPEND) without an error, and does nothing (vxlan_fdb_update).
 */
export function setFdb(device: number, mac: string, destination: Address): Change {
  const plan = { device, mac, destination };
  return {
    what: `set forwarding of ${mac} to ${destination.text}`,
    write: (to) => writeFdb(to, nl.RTM_NEWNEIGH, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, plan),
  };
}

/** Deletes one (MAC, destination) entry. */
export function deleteFdb(device: number, mac: string, destination: Address | undefined): Change {
  const plan = { device, mac, destination };
  return {
    what: `delete forwarding of ${mac} to ${destination?.text ?? 'nowhere'}`,
    write: (to) => writeFdb(to, nl.RTM_DELNEIGH, 0, plan),
  };
}

/** Where a frame to a MAC address goes: out of a port of a bridge, or by a VXLAN device to a destination. */
export interface Forwarding {
  /** Interface index of the port, or of the VXLAN device itself. */
  readonly device: number;
  readonly destination: Address | undefined;
}

interface Forwarder {
  readonly index: number;
  readonly isBridge: boolean;
}

/** Reads a forwarding entry of a bridge or a VXLAN device for the MAC address; undefined for everything else. */
function parseForwarding({ payload }: Message, of: Forwarder, mac: string): Forwarding | undefined {
  const attributes = parseAttributes(payload, 12);
  const [lladdr, master, destination] = [nl.NDA_LLADDR, nl.NDA_MASTER, nl.NDA_DST].map((type) =>
    attributes.get(type),
  );
  const device = payload.readInt32LE(4);
  const isSelf = (payload.readUInt8(10) & nl.NTF_SELF) !== 0;
  const isOf = of.isBridge ? master?.readUInt32LE(0) === of.index : isSelf && device === of.index;
  if (!isOf || lladdr === undefined || macFromBytes(lladdr) !== mac) return undefined;
  return { device, destination: destination === undefined ? undefined : addressFromBytes(destination) };
}

/**
 * Asks for one forwarding entry.
 * @param of the bridge or the VXLAN device
 * @returns undefined where there is none
 */
export function findForwarding(
  socket: RtSocket,
  of: Forwarder,
  mac: string,
): Promise<Forwarding | undefined> {
  const write = (to: MessageWriter): void => {
    const flags = of.isBridge ? nl.NTF_MASTER : nl.NTF_SELF;
    to.message(nl.RTM_GETNEIGH)
      .struct(ndmsg(nl.AF_BRIDGE, of.isBridge ? 0 : of.index, 0, flags))
      .mac(nl.NDA_LLADDR, mac);
    if (of.isBridge) to.u32(nl.NDA_MASTER, of.index);
  };
  return findOne(
    socket,
    { what: `look up where ${mac} is`, write },
    {
      request: listForwarding(of.isBridge ? 0 : of.index),
      read: (answer) => parseForwarding(answer, of, mac),
    },
  );
}
