import { type Address, addressFromBytes } from '../../model/address.ts';
import { KernelRefusal } from '../errno.ts';
import { attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import { rtmsg } from './routes.ts';
import type { RtSocket } from './socket.ts';

/** A packet, as far as the kernel's routing looks at it. */
export interface RoutedPacket {
  readonly destination: Address;
  /** Undefined for what the machine itself sends, and has not yet given a source. */
  readonly source: Address | undefined;
  /** Interface index of the device that it came in by; undefined for what the machine itself sends. */
  readonly inDevice: number | undefined;
  readonly mark: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly sourcePort: number | undefined;
  readonly port: number | undefined;
}

/** Where the kernel would send it. */
export interface PacketRoute {
  /** RTN_* */
  readonly type: number;
  /** Interface index. */
  readonly device: number;
  readonly gateway: Address | undefined;
  readonly source: Address | undefined;
  /** MTU that the route sets, in bytes. */
  readonly mtu: number | undefined;
  /** The entry that decides, where the kernel says so: `10.244.2.0/24`, its table, and RTPROT_*. */
  readonly destination: string | undefined;
  readonly table: number | undefined;
  readonly protocol: number | undefined;
}

/** Numbers that the kernel takes here (rtm_getroute_parse_ip_proto); it refuses others. */
const protocols = { tcp: 6, udp: 17, sctp: undefined } as const;

/** Types of routes that refuse, with what the sender is told. */
const refusing: Readonly<Record<number, string>> = { 6: 'EINVAL', 7: 'EHOSTUNREACH', 8: 'EACCES' };

function writeQuestion(to: MessageWriter, packet: RoutedPacket, flags: number): void {
  const { destination, source, inDevice, mark, protocol, sourcePort, port } = packet;
  const { family } = destination;
  to.message(nl.RTM_GETROUTE)
    .struct(rtmsg(family.af, family.bits, 0, 0, 0, flags))
    .address(nl.RTA_DST, destination);
  if (source !== undefined) to.address(nl.RTA_SRC, source);
  if (inDevice !== undefined) to.u32(nl.RTA_IIF, inDevice);
  if (mark !== 0) to.u32(nl.RTA_MARK, mark);
  const number = protocols[protocol];
  if (number === undefined) return;
  to.u8(nl.RTA_IP_PROTO, number);
  if (sourcePort !== undefined) to.u16be(nl.RTA_SPORT, sourcePort);
  if (port !== undefined) to.u16be(nl.RTA_DPORT, port);
}

async function ask(socket: RtSocket, packet: RoutedPacket, flags: number): Promise<Message | KernelRefusal> {
  try {
    const what = `look up the route to ${packet.destination.text}`;
    return await socket.ask({ what, write: (to) => writeQuestion(to, packet, flags) });
  } catch (error) {
    if (error instanceof KernelRefusal) return error;
    throw error;
  }
}

/** The entry behind an answer (RTM_F_FIB_MATCH). */
function entryOf(answer: Message | KernelRefusal): Pick<PacketRoute, 'destination' | 'table' | 'protocol'> {
  if (answer instanceof KernelRefusal)
    return { destination: undefined, table: undefined, protocol: undefined };
  const attributes = parseAttributes(answer.payload, 12);
  const bytes = attributes.get(nl.RTA_DST);
  return {
    destination:
      bytes === undefined ? 'default' : `${addressFromBytes(bytes).text}/${answer.payload.readUInt8(1)}`,
    table: attributeU32(attributes.get(nl.RTA_TABLE)) ?? answer.payload.readUInt8(4),
    protocol: answer.payload.readUInt8(5),
  };
}

/**
 * Asks the kernel where it would send a packet: with all rules (`ip rule`) and tables, and, for one that came in, with
 * what it checks of those (rp_filter, forwarding, forged sources).
 * @returns the refusal's symbolic name where it would not
 */
export async function routePacket(socket: RtSocket, packet: RoutedPacket): Promise<PacketRoute | string> {
  const answer = await ask(socket, packet, 0);
  if (answer instanceof KernelRefusal) return answer.errno;
  const { payload } = answer;
  const type = payload.readUInt8(7);
  const refused = refusing[type];
  if (refused !== undefined) return refused;
  const attributes = parseAttributes(payload, 12);
  const gateway = attributes.get(nl.RTA_GATEWAY);
  const via = attributes.get(nl.RTA_VIA);
  const source = attributes.get(nl.RTA_PREFSRC);
  const metrics = attributes.get(nl.RTA_METRICS);
  // struct rtvia: the family, then the address.
  const hop = gateway ?? via?.subarray(2);
  return {
    type,
    device: attributeU32(attributes.get(nl.RTA_OIF)) ?? 0,
    gateway: hop === undefined ? undefined : addressFromBytes(hop),
    source: source === undefined ? undefined : addressFromBytes(source),
    mtu: metrics && attributeU32(parseAttributes(metrics, 0).get(nl.RTAX_MTU)),
    ...entryOf(await ask(socket, packet, nl.RTM_F_FIB_MATCH)),
  };
}
