import { attributeU32, type Message, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';

/** A change of an interface's, or of the whole namespace's, IP settings (net.ipv4.conf.*, net.ipv6.conf.*). */
export interface IpSettings {
  /** Interface index; NETCONFA_IFINDEX_ALL (-1) for `all`, NETCONFA_IFINDEX_DEFAULT (-2) for `default`. */
  readonly index: number;
  /** Undefined where the message does not speak of it. */
  readonly forwarding: boolean | undefined;
}

/** Reads RTM_NEWNETCONF; undefined for other messages. */
export function parseIpSettings(message: Message): IpSettings | undefined {
  if (message.type !== nl.RTM_NEWNETCONF) return undefined;
  const attributes = parseAttributes(message.payload, 4);
  const index = attributes.get(nl.NETCONFA_IFINDEX)?.readInt32LE(0);
  const forwarding = attributeU32(attributes.get(nl.NETCONFA_FORWARDING));
  return index === undefined
    ? undefined
    : { index, forwarding: forwarding === undefined ? undefined : forwarding !== 0 };
}
