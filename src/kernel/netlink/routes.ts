import {
  type Address,
  addressFromBytes,
  type Family,
  families,
  ipv4,
  makeAddress,
  makePrefix,
  type Prefix,
} from '../../model/address.ts';
import { attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, Listing } from './socket.ts';

/** A unicast route of the main table. `device` is an interface index, 0 for a multipath or blackhole route. */
export interface Route {
  readonly destination: Prefix;
  readonly gateway: Address | undefined;
  readonly device: number;
  readonly onlink: boolean;
  /** RTPROT_*: who made it. */
  readonly protocol: number;
  readonly scope: number;
  readonly source: Address | undefined;
  /** 0 for IPv4's default; the kernel shows IPv6's default as 1024. */
  readonly metric: number;
  /** Id of the nexthop object it uses, which then says gateway, device and onlink. */
  readonly nexthop: number | undefined;
}

/** Neighbour-like cache entries are not configuration. */
const RTM_F_CLONED = 0x200;

/** struct rtmsg, for the main table */
export function rtmsg(
  family: number,
  length: number,
  protocol: number,
  scope: number,
  type: number,
  flags: number,
  table: number = nl.RT_TABLE_MAIN,
): number[] {
  return [
    family,
    length,
    0,
    0,
    table > 255 ? nl.RT_TABLE_UNSPEC : table,
    protocol,
    scope,
    type,
    flags,
    flags >> 8,
    flags >> 16,
    flags >> 24,
  ];
}

/**
 * Reads a unicast route of the main table from RTM_NEWROUTE or RTM_DELROUTE; undefined for everything else.
 * @param anyTable routes of other tables count, too
 */
export function parseRoute(message: Message, anyTable = false): Route | undefined {
  if (message.type !== nl.RTM_NEWROUTE && message.type !== nl.RTM_DELROUTE) return undefined;
  const { payload } = message;
  const family = families.find((candidate) => candidate.af === payload[0]);
  if (family === undefined || payload.length < 12 || payload.readUInt8(7) !== nl.RTN_UNICAST)
    return undefined;
  const flags = payload.readUInt32LE(8);
  if ((flags & RTM_F_CLONED) !== 0) return undefined;
  const attributes = parseAttributes(payload, 12);
  const table = attributeU32(attributes.get(nl.RTA_TABLE)) ?? payload.readUInt8(4);
  if (table !== nl.RT_TABLE_MAIN && !anyTable) return undefined;
  const destination = attributes.get(nl.RTA_DST);
  const gateway = attributes.get(nl.RTA_GATEWAY);
  const source = attributes.get(nl.RTA_PREFSRC);
  return {
    destination: makePrefix(
      destination === undefined ? makeAddress(family, 0n) : addressFromBytes(destination),
      payload.readUInt8(1),
    ),
    gateway: gateway === undefined ? undefined : addressFromBytes(gateway),
    device: attributeU32(attributes.get(nl.RTA_OIF)) ?? 0,
    onlink: (flags & nl.RTNH_F_ONLINK) !== 0,
    protocol: payload.readUInt8(5),
    scope: payload.readUInt8(6),
    source: source === undefined ? undefined : addressFromBytes(source),
    metric: attributeU32(attributes.get(nl.RTA_PRIORITY)) ?? 0,
    nexthop: attributeU32(attributes.get(nl.RTA_NH_ID)),
  };
}

/** Destination of a route of any kind and table but the local one, for who only needs to look again; else undefined. */
export function parseRouteDestination(message: Message): Prefix | undefined {
  if (message.type !== nl.RTM_NEWROUTE && message.type !== nl.RTM_DELROUTE) return undefined;
  const { payload } = message;
  const family = families.find((candidate) => candidate.af === payload[0]);
  if (family === undefined || payload.length < 12 || (payload.readUInt32LE(8) & RTM_F_CLONED) !== 0)
    return undefined;
  const attributes = parseAttributes(payload, 12);
  if ((attributeU32(attributes.get(nl.RTA_TABLE)) ?? payload.readUInt8(4)) === nl.RT_TABLE_LOCAL)
    return undefined;
  const destination = attributes.get(nl.RTA_DST);
  return makePrefix(
    destination === undefined ? makeAddress(family, 0n) : addressFromBytes(destination),
    payload.readUInt8(1),
  );
}

/** Unicast routes of one family: those of the main table, or of every table. */
export function routesOf(family: Family, anyTable = false): Listing<Route> {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETROUTE).struct(rtmsg(family.af, 0, 0, 0, 0, 0));
  };
  return { request: { what: 'list routes', write }, read: (answer) => parseRoute(answer, anyTable) };
}

export interface RoutePlan {
  readonly destination: Prefix;
  readonly device: number;
  readonly gateway?: Address;
  /** The gateway is on the device even though no address of the device says so. */
  readonly onlink?: boolean;
  readonly source?: Address;
  readonly protocol: number;
  /** Default: universe with a gateway, link without. */
  readonly scope?: number;
  readonly metric?: number;
  /** Number of the table; default main. */
  readonly table?: number;
  /** Largest packet in bytes, and largest TCP segment that is announced. */
  readonly mtu?: number;
  readonly advmss?: number;
  /** Id of a nexthop object that stands; gateway, device and onlink are then its. */
  readonly nexthop?: number | undefined;
}

function writeRoute(to: MessageWriter, type: number, flags: number, plan: RoutePlan): void {
  const { destination, gateway, nexthop } = plan;
  const family = destination.family;
  const natural =
    (gateway ?? nexthop) === undefined && family === ipv4 ? nl.RT_SCOPE_LINK : nl.RT_SCOPE_UNIVERSE;
  const routeFlags = plan.onlink === true && nexthop === undefined ? nl.RTNH_F_ONLINK : 0;
  to.message(type, flags).struct(
    rtmsg(
      family.af,
      destination.length,
      plan.protocol,
      plan.scope ?? natural,
      nl.RTN_UNICAST,
      routeFlags,
      plan.table,
    ),
  );
  if (destination.length > 0) to.address(nl.RTA_DST, destination.address);
  if (nexthop !== undefined) to.u32(nl.RTA_NH_ID, nexthop);
  else to.u32(nl.RTA_OIF, plan.device);
  if (gateway !== undefined && nexthop === undefined) to.address(nl.RTA_GATEWAY, gateway);
  if (plan.source !== undefined) to.address(nl.RTA_PREFSRC, plan.source);
  if (plan.metric !== undefined) to.u32(nl.RTA_PRIORITY, plan.metric);
  if (plan.table !== undefined) to.u32(nl.RTA_TABLE, plan.table);
  if (plan.mtu === undefined && plan.advmss === undefined) return;
  to.begin(nl.RTA_METRICS);
  if (plan.mtu !== undefined) to.u32(nl.RTAX_MTU, plan.mtu);
  if (plan.advmss !== undefined) to.u32(nl.RTAX_ADVMSS, plan.advmss);
  to.end();
}

/** Adds the route, or puts it in the place of one with the same destination and metric. */
export function replaceRoute(plan: RoutePlan): Change {
  return {
    what: `set route ${plan.destination.text}`,
    write: (to) => writeRoute(to, nl.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, plan),
  };
}

/** Adds the route unless there is one with the same destination and metric already (EEXIST). */
export function addRoute(plan: RoutePlan): Change {
  return {
    what: `add route ${plan.destination.text}`,
    write: (to) => writeRoute(to, nl.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_EXCL, plan),
  };
}

/** Deletes the one route that matches every given field. */
export function deleteRoute(route: Route): Change {
  const { destination, gateway, source, metric, ...rest } = route;
  const plan: RoutePlan = {
    ...rest,
    destination,
    ...(gateway === undefined ? {} : { gateway }),
    ...(source === undefined ? {} : { source }),
    ...(metric === 0 ? {} : { metric }),
  };
  return {
    what: `delete route ${destination.text}`,
    write: (to) => writeRoute(to, nl.RTM_DELROUTE, 0, plan),
  };
}

export interface BlackholePlan {
  readonly destination: Prefix;
  readonly protocol: number;
  /** High, so that any other route to the same destination is preferred. */
  readonly metric: number;
}

function writeBlackhole(to: MessageWriter, type: number, flags: number, plan: BlackholePlan): void {
  const { destination, protocol, metric } = plan;
  const { af } = destination.family;
  const header = rtmsg(af, destination.length, protocol, nl.RT_SCOPE_UNIVERSE, nl.RTN_BLACKHOLE, 0);
  to.message(type, flags)
    .struct(header)
    .address(nl.RTA_DST, destination.address)
    .u32(nl.RTA_PRIORITY, metric);
}

/** Discards packets to the destination where no other route takes them. Setting it twice is fine. */
export function setBlackhole(plan: BlackholePlan): Change {
  return {
    what: `set blackhole route ${plan.destination.text}`,
    write: (to) => writeBlackhole(to, nl.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, plan),
  };
}

/** Refused with `not-found` where it is not there. */
export function deleteBlackhole(plan: BlackholePlan): Change {
  return {
    what: `delete blackhole route ${plan.destination.text}`,
    write: (to) => writeBlackhole(to, nl.RTM_DELROUTE, 0, plan),
  };
}
