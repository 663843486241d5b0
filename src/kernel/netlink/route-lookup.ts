import { type Address, addressFromBytes } from '../../model/address.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import { attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import { rtmsg } from './routes.ts';
import type { Change, RtSocket } from './socket.ts';

/** How the kernel would send to an address now. */
export interface RouteAnswer {
  /** Interface index. */
  readonly device: number;
  /** The address is this machine's own. */
  readonly local: boolean;
  /** Packets go to a gateway, not to the address itself. */
  readonly gatewayed: boolean;
  /** That gateway, where it is of the address's family. */
  readonly gateway: Address | undefined;
  /** The source that the kernel would give packets without one. */
  readonly source: Address | undefined;
  /** MTU that the route sets, in bytes; what the kernel has learned of the path for a while is not of the route. */
  readonly mtu: number | undefined;
}

/** The route that the kernel finds for an address, as somebody configured it: several may serve equally well. */
export interface RouteMatch {
  /** Tells routes apart that are not equally good: table, prefix length, metric. */
  readonly rank: string;
  /** Source address that the route names. */
  readonly source: Address | undefined;
}

/** What narrows a look-up: packets with this source, or that leave by this device. */
export interface RouteQuestion {
  readonly source?: Address | undefined;
  readonly device?: number | undefined;
}

function question(address: Address, flags: number, { source, device }: RouteQuestion): Change {
  const { family } = address;
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETROUTE)
      .struct(rtmsg(family.af, family.bits, 0, 0, 0, flags))
      .address(nl.RTA_DST, address);
    if (source !== undefined) to.address(nl.RTA_SRC, source);
    if (device !== undefined) to.u32(nl.RTA_OIF, device);
  };
  return { what: `look up the route to ${address.text}`, write };
}

/** MTU among RTA_METRICS, unless the entry ages (struct rta_cacheinfo, rta_expires): then it is a path's. */
function routeMtu(attributes: ReadonlyMap<number, Buffer>): number | undefined {
  const metrics = attributes.get(nl.RTA_METRICS);
  if (metrics === undefined || (attributes.get(nl.RTA_CACHEINFO)?.readInt32LE(8) ?? 0) !== 0)
    return undefined;
  return attributeU32(parseAttributes(metrics, 0).get(nl.RTAX_MTU));
}

function parseAnswer({ payload }: Message): RouteAnswer | undefined {
  const attributes = parseAttributes(payload, 12);
  const device = attributeU32(attributes.get(nl.RTA_OIF));
  const source = attributes.get(nl.RTA_PREFSRC);
  const gateway = attributes.get(nl.RTA_GATEWAY);
  const type = payload.readUInt8(7);
  if (device === undefined || (type !== nl.RTN_UNICAST && type !== nl.RTN_LOCAL)) return undefined;
  return {
    device,
    local: type === nl.RTN_LOCAL,
    gateway: gateway === undefined ? undefined : addressFromBytes(gateway),
    gatewayed: attributes.has(nl.RTA_GATEWAY) || attributes.has(nl.RTA_VIA),
    source: source === undefined ? undefined : addressFromBytes(source),
    mtu: routeMtu(attributes),
  };
}

/** Refusals that mean that there is no way: the routing table's, and that of a source or device that is gone. */
function isNoRoute(error: unknown): boolean {
  return isTwillError(error, 'kernel', 'not-found', 'permission');
}

/** Asks the kernel how it would send to `address`. @returns undefined when it has no route there */
export async function lookUpRoute(
  socket: RtSocket,
  address: Address,
  narrow: RouteQuestion = {},
): Promise<RouteAnswer | undefined> {
  const [answer] = await lookUpRoutes(socket, [address], narrow);
  return answer;
}

/** Like {@link lookUpRoute}, for many in few system calls. */
export async function lookUpRoutes(
  socket: RtSocket,
  addresses: readonly Address[],
  narrow: RouteQuestion = {},
): Promise<(RouteAnswer | undefined)[]> {
  const answers = await socket.askEach(addresses.map((address) => question(address, 0, narrow)));
  return answers.map((answer) => {
    if (!(answer instanceof TwillError)) return parseAnswer(answer);
    if (isNoRoute(answer)) return undefined;
    throw answer;
  });
}

/** The configured route behind {@link lookUpRoute}'s answer; undefined where there is none. */
export async function matchRoute(
  socket: RtSocket,
  address: Address,
  narrow: RouteQuestion = {},
): Promise<RouteMatch | undefined> {
  let payload: Buffer;
  try {
    ({ payload } = await socket.ask(question(address, nl.RTM_F_FIB_MATCH, narrow)));
  } catch (error) {
    if (isNoRoute(error)) return undefined;
    throw error;
  }
  const attributes = parseAttributes(payload, 12);
  const source = attributes.get(nl.RTA_PREFSRC);
  const table = attributeU32(attributes.get(nl.RTA_TABLE)) ?? payload.readUInt8(4);
  return {
    rank: `${table} ${payload.readUInt8(1)} ${attributeU32(attributes.get(nl.RTA_PRIORITY)) ?? 0}`,
    source: source === undefined ? undefined : addressFromBytes(source),
  };
}
