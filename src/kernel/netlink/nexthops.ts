import { type Address, addressFromBytes } from '../../model/address.ts';
import { isTwillError } from '../../model/error.ts';
import { attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, Listing, RtSocket } from './socket.ts';

/** A nexthop object (ip-nexthop(8)) with one gateway, which is on the device whatever the device's addresses say. */
export interface Nexthop {
  readonly id: number;
  readonly gateway: Address | undefined;
  /** Interface index, 0 for a group or blackhole. */
  readonly device: number;
  /** RTPROT_*: who made it. */
  readonly protocol: number;
}

/** struct nhmsg */
function nhmsg(family: number, protocol: number, flags: number): number[] {
  return [family, 0, protocol, 0, flags, 0, 0, 0];
}

/** Reads RTM_NEWNEXTHOP or RTM_DELNEXTHOP; undefined for everything else. */
export function parseNexthop(message: Message): Nexthop | undefined {
  if (message.type !== nl.RTM_NEWNEXTHOP && message.type !== nl.RTM_DELNEXTHOP) return undefined;
  const { payload } = message;
  const attributes = parseAttributes(payload, 8);
  const id = attributeU32(attributes.get(nl.NHA_ID));
  if (id === undefined) return undefined;
  const gateway = attributes.get(nl.NHA_GATEWAY);
  return {
    id,
    gateway: gateway === undefined ? undefined : addressFromBytes(gateway),
    device: attributeU32(attributes.get(nl.NHA_OIF)) ?? 0,
    protocol: payload.readUInt8(2),
  };
}

/** Whether the kernel has nexthop objects (Linux 5.3 and later). */
export async function hasNexthops(socket: RtSocket): Promise<boolean> {
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_GETNEXTHOP)
      .struct(nhmsg(0, 0, 0))
      .u32(nl.NHA_ID, 1);
  };
  try {
    await socket.ask({ what: 'look for nexthop objects', write });
    return true;
  } catch (error) {
    return isTwillError(error, 'not-found');
  }
}

/** Nexthop objects of one device, or of all without one. */
export function nexthopsOf(device?: number): Listing<Nexthop> {
  const write = (to: MessageWriter): void => {
    const message = to.message(nl.RTM_GETNEXTHOP).struct(nhmsg(0, 0, 0));
    if (device !== undefined) message.u32(nl.NHA_OIF, device);
  };
  return {
    request: { what: 'list nexthop objects', write },
    read: (answer) => {
      const nexthop = parseNexthop(answer);
      return device === undefined || nexthop?.device === device ? nexthop : undefined;
    },
  };
}

/** Adds the nexthop object, or puts it in the place of the one with its id; routes that use that one follow. */
export function replaceNexthop(plan: Nexthop & { readonly gateway: Address }): Change {
  const { id, gateway, device, protocol } = plan;
  return {
    what: `set the nexthop object ${id} via ${gateway.text}`,
    write: (to) =>
      to
        .message(nl.RTM_NEWNEXTHOP, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
        .struct(nhmsg(gateway.family.af, protocol, nl.RTNH_F_ONLINK))
        .u32(nl.NHA_ID, id)
        .u32(nl.NHA_OIF, device)
        .address(nl.NHA_GATEWAY, gateway),
  };
}

/** Deletes the nexthop object, and with it the routes that use it. */
export function deleteNexthop(id: number): Change {
  return {
    what: `delete the nexthop object ${id}`,
    write: (to) =>
      to
        .message(nl.RTM_DELNEXTHOP)
        .struct(nhmsg(0, 0, 0))
        .u32(nl.NHA_ID, id),
  };
}
