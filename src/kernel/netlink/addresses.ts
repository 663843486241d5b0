import { type Address, addressFromBytes, type Family, ipv4 } from '../../model/address.ts';
import { attributeU32, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, RtSocket } from './socket.ts';

/** An address on a device. `length` is the prefix length in bits, `scope` an RT_SCOPE_* number. */
export interface InterfaceAddress {
  readonly index: number;
  readonly address: Address;
  readonly length: number;
  readonly scope: number;
  readonly flags: number;
}

/**
 * True for an address at which other machines may reach this one. Beside those of scope universe these are IPv6's old
 * site-local ones, which emulators still hand out, and IPv4 addresses that somebody has given the scope link.
 */
export function isForOthers({ address, scope }: Pick<InterfaceAddress, 'address' | 'scope'>): boolean {
  return scope < nl.RT_SCOPE_LINK || (scope === nl.RT_SCOPE_LINK && address.family === ipv4);
}

/** struct ifaddrmsg */
function ifaddr(family: Family, length: number, scope: number, index: number): Buffer {
  const struct = Buffer.from([family.af, length, 0, scope, 0, 0, 0, 0]);
  struct.writeUInt32LE(index, 4);
  return struct;
}

/** Reads RTM_NEWADDR or RTM_DELADDR; undefined for other messages. */
export function parseInterfaceAddress(message: Message): InterfaceAddress | undefined {
  if (message.type !== nl.RTM_NEWADDR && message.type !== nl.RTM_DELADDR) return undefined;
  const { payload } = message;
  if (payload.length < 8 || (payload[0] !== nl.AF_INET && payload[0] !== nl.AF_INET6)) return undefined;
  const attributes = parseAttributes(payload, 8);
  const bytes = attributes.get(nl.IFA_LOCAL) ?? attributes.get(nl.IFA_ADDRESS);
  if (bytes === undefined) return undefined;
  return {
    index: payload.readUInt32LE(4),
    address: addressFromBytes(bytes),
    length: payload.readUInt8(1),
    scope: payload.readUInt8(3),
    flags: attributeU32(attributes.get(nl.IFA_FLAGS)) ?? payload.readUInt8(2),
  };
}

/** All addresses of both families in the socket's namespace, or those of one family. */
export function listAddresses(socket: RtSocket, family?: Family): Promise<InterfaceAddress[]> {
  const struct = Buffer.alloc(8);
  struct.writeUInt8(family?.af ?? nl.AF_UNSPEC, 0);
  return socket.list({
    request: { what: 'list addresses', write: (to) => to.message(nl.RTM_GETADDR).struct(struct) },
    read: parseInterfaceAddress,
  });
}

export interface AddressPlan {
  readonly index: number;
  readonly address: Address;
  /** Prefix length in bits. */
  readonly length: number;
  /** RT_SCOPE_*; default universe. */
  readonly scope?: number;
  /** Whether IPv6 looks for duplicates first, which keeps the address from use for a second; default false. */
  readonly detectDuplicates?: boolean;
}

function writeAddress(to: MessageWriter, type: number, flags: number, plan: AddressPlan): void {
  const { address, length, index, scope = nl.RT_SCOPE_UNIVERSE } = plan;
  to.message(type, flags).struct(ifaddr(address.family, length, scope, index));
  to.address(nl.IFA_LOCAL, address).address(nl.IFA_ADDRESS, address);
  // Our own allocator guarantees uniqueness; duplicate address detection would delay IPv6 by seconds.
  const detects = address.family === ipv4 || plan.detectDuplicates === true;
  if (!detects && type === nl.RTM_NEWADDR) to.u32(nl.IFA_FLAGS, nl.IFA_F_NODAD);
}

/** Adds the address, or changes its scope if it is there already. */
export function addAddress(plan: AddressPlan): Change {
  return {
    what: `add address ${plan.address.text}/${plan.length} to device ${plan.index}`,
    write: (to) => writeAddress(to, nl.RTM_NEWADDR, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, plan),
  };
}

export function deleteAddress(plan: AddressPlan): Change {
  return {
    what: `delete address ${plan.address.text}/${plan.length} from device ${plan.index}`,
    write: (to) => writeAddress(to, nl.RTM_DELADDR, 0, plan),
  };
}
