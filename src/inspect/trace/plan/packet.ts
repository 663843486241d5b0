import { type Family, parseAddress } from '../../../model/address.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** What connection tracking of one namespace thinks of a packet. */
export interface Tracking {
  readonly state: 'new' | 'established' | 'untracked' | 'invalid';
  readonly direction: 'original' | 'reply';
  /** Its destination, or its source, was translated in this namespace. */
  readonly dnat: boolean;
  readonly snat: boolean;
  readonly mark: number;
  /** Addresses and ports that the connection began with. */
  readonly original: Ends;
}

/** Who sends to whom. A port is undefined where it is anybody's choice. */
export interface Ends {
  readonly source: string;
  readonly sourcePort: number | undefined;
  readonly destination: string;
  readonly port: number | undefined;
}

/** A packet on its way, as rules see it. */
export interface Packet extends Ends {
  readonly family: Family;
  readonly protocol: Protocol;
  readonly mark: number;
  /** The priority that rules may keep a number in (skb->priority); 0 where it is absent. */
  readonly priority?: number;
  /** Undefined before connection tracking has seen it. */
  readonly tracking: Tracking | undefined;
  readonly inDevice?: string | undefined;
  readonly outDevice?: string | undefined;
  /** Ports of a bridge, where the bridge hands packets to iptables. */
  readonly bridgeIn?: string | undefined;
  readonly bridgeOut?: string | undefined;
  /** It begins a connection (SYN of TCP); false for answers. */
  readonly opening: boolean;
}

/** Numbers of the texts seen so far: the same few come again and again. */
const values = new Map<string, bigint>();
const MOST_VALUES = 100_000;

export function addressValue(text: string): bigint {
  let value = values.get(text);
  if (value === undefined) {
    value = parseAddress(text).value;
    if (values.size >= MOST_VALUES) values.clear();
    values.set(text, value);
  }
  return value;
}

/** A network as iptables-save prints it: `10.0.0.0/8`, or with a mask of any bits (`::5/::ff`). */
export interface MaskedAddress {
  readonly value: bigint;
  readonly mask: bigint;
}

export function parseMasked(text: string): MaskedAddress {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const all = (1n << BigInt(address.family.bits)) - 1n;
  const mask = slash < 0 ? undefined : text.slice(slash + 1);
  if (mask === undefined) return { value: address.value, mask: all };
  const bits = /^\d+$/.test(mask)
    ? (all << BigInt(address.family.bits - Number(mask))) & all
    : parseAddress(mask).value;
  return { value: address.value & bits, mask: bits };
}

export function isWithin(address: string, { value, mask }: MaskedAddress): boolean {
  return (addressValue(address) & mask) === value;
}

/** A name of a device as rules write it: one that ends in `+` (or `*` of nft) stands for all that begin so. */
export function matchesDevice(device: string | undefined, pattern: string): boolean {
  const isOpen = pattern.endsWith('+') || pattern.endsWith('*');
  if (device === undefined) return false;
  return isOpen ? device.startsWith(pattern.slice(0, -1)) : device === pattern;
}

/** `10.0.0.1:80`, `[fd00::1]:80`; the address alone where no port is known. */
export function endText(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
