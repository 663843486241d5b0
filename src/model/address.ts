import { IPv6 } from 'ip-num';
import { TwillError } from './error.ts';

/** Everything that differs between IPv4 and IPv6, so that one code path serves both. */
export interface Family {
  readonly name: 'ipv4' | 'ipv6';
  /** Address length in bits. */
  readonly bits: 32 | 128;
  /** Address length in bytes. */
  readonly bytes: 4 | 16;
  /** `AF_INET` or `AF_INET6` as the Linux kernel numbers them. */
  readonly af: 2 | 10;
  /** The word Kubernetes uses (`EndpointSlice.addressType`, `Service.spec.ipFamilies`). */
  readonly kubeName: 'IPv4' | 'IPv6';
  /** Bytes that VXLAN encapsulation adds to a packet: outer IP, UDP, VXLAN and inner Ethernet headers. */
  readonly vxlanOverhead: 50 | 70;
  /** Prefix of the iptables tools' names. */
  readonly iptables: 'iptables' | 'ip6tables';
  /** The family's name in nftables. */
  readonly nft: 'ip' | 'ip6';
}

export const ipv4: Family = {
  name: 'ipv4',
  bits: 32,
  bytes: 4,
  af: 2,
  kubeName: 'IPv4',
  vxlanOverhead: 50,
  iptables: 'iptables',
  nft: 'ip',
};

export const ipv6: Family = {
  name: 'ipv6',
  bits: 128,
  bytes: 16,
  af: 10,
  kubeName: 'IPv6',
  vxlanOverhead: 70,
  iptables: 'ip6tables',
  nft: 'ip6',
};

export const families: readonly Family[] = [ipv4, ipv6];

/**
 * One IP address. `text` is what the C library's inet_ntop prints, and so `iptables-save`, `nft` and `ip`: it serves as a
 * key, and rules made of it can be compared with theirs.
 */
export interface Address {
  readonly family: Family;
  readonly value: bigint;
  readonly text: string;
}

/** A network: the address part has no bits set beyond `length`. `text` is canonical CIDR notation. */
export interface Prefix {
  readonly family: Family;
  readonly address: Address;
  readonly length: number;
  readonly text: string;
}

const ipv4Text = (value: bigint): string => {
  const number = Number(value);
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
};

/** The first of the longest runs of zeros; one alone is written out. */
function longestZeros(words: readonly number[]): { at: number; length: number } {
  let best = { at: -1, length: 1 };
  for (let at = 0; at < words.length; at++) {
    let length = 0;
    while (words[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
    at += length;
  }
  return best.at < 0 ? { at: -1, length: 0 } : best;
}

/**
 * As glibc's inet_ntop: RFC 5952, and the end of an address as dotted decimal where 96 zeros (`::192.0.2.1`), or 80 zeros
 * and 16 ones (`::ffff:192.0.2.1`), come before it.
 */
function ipv6Text(value: bigint): string {
  const words: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) words.push(Number((value >> shift) & 0xffffn));
  const zeros = longestZeros(words);
  const embedded = zeros.at === 0 && (zeros.length === 6 || (zeros.length === 5 && words[5] === 0xffff));
  const hex = (list: readonly number[]): string => list.map((word) => word.toString(16)).join(':');
  if (embedded)
    return `::${zeros.length === 5 ? 'ffff:' : ''}${ipv4Text(BigInt(words[6]! * 0x1_0000 + words[7]!))}`;
  if (zeros.length === 0) return hex(words);
  return `${hex(words.slice(0, zeros.at))}::${hex(words.slice(zeros.at + zeros.length))}`;
}

/** The address with this numeric value (network byte order read as one big-endian integer). */
export function makeAddress(family: Family, value: bigint): Address {
  if (value < 0n || value >> BigInt(family.bits) !== 0n) {
    throw new TwillError('invalid', `${value} is outside the range of ${family.kubeName} addresses`);
  }
  const text = family === ipv4 ? ipv4Text(value) : ipv6Text(value);
  return { family, value, text };
}

const ipv4Pattern = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

/** Thousands of leases are read at start: this takes a tenth of the library's time. Leading zeros are refused. */
function parseIpv4(text: string): Address | undefined {
  const match = ipv4Pattern.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (let index = 1; index <= 4; index++) {
    const byte = Number(match[index]);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return { family: ipv4, value: BigInt(value), text };
}

/**
 * Parses dotted-decimal IPv4 or colon-hexadecimal IPv6 text, without zone or prefix length.
 * @throws TwillError `invalid` naming the text
 */
export function parseAddress(text: string): Address {
  try {
    if (text.includes(':')) {
      if (!/^[0-9a-fA-F:.]+$/.test(text)) throw new Error('unexpected character');
      return makeAddress(ipv6, IPv6.fromString(text).value);
    }
    const address = parseIpv4(text);
    if (address === undefined) throw new Error('not four numbers from 0 to 255');
    return address;
  } catch (cause) {
    throw new TwillError('invalid', `'${text}' is not an IP address`, cause);
  }
}

/**
 * The numbers of dotted decimal, of an address or a network, without leading zeros: Kubernetes reads them as decimal ones
 * (netutils.ParseIPSloppy), and objects from before the API server refused them still have some.
 */
export function withoutLeadingZeros(text: string): string {
  return /^\d+(\.\d+){3}(?![^:/])/.test(text) ? text.replace(/(?<=^|\.)0+(?=\d)/g, '') : text;
}

/** Like {@link parseAddress}, undefined instead of an error. */
export function tryParseAddress(text: unknown): Address | undefined {
  if (typeof text !== 'string') return undefined;
  try {
    return parseAddress(text);
  } catch {
    return undefined;
  }
}

/** True for an IPv6 address that means nothing without its interface: one of a single link (fe80::/10). */
export function isLinkLocal({ family, value }: Address): boolean {
  return family === ipv6 && value >> 118n === 0x3fan;
}

/**
 * True for an address that a machine can have for others to reach: not unspecified, loopback, multicast or broadcast; of
 * IPv6 neither one of a single link nor one that stands for an IPv4 address (::ffff:0:0/96).
 */
export function isUnicast(address: Address): boolean {
  const { family, value } = address;
  if (family === ipv6)
    return value > 1n && value >> 120n !== 0xffn && !isLinkLocal(address) && value >> 32n !== 0xffffn;
  const number = Number(value);
  const first = number >>> 24;
  return first > 0 && first !== 127 && (first < 224 || first >= 240) && number !== 0xffff_ffff;
}

/** The network of `length` bits that `address` is in. */
export function makePrefix(address: Address, length: number): Prefix {
  const { family } = address;
  if (!Number.isInteger(length) || length < 0 || length > family.bits) {
    throw new TwillError('invalid', `${length} is not a prefix length for ${family.kubeName}`);
  }
  const shift = BigInt(family.bits - length);
  const base = (address.value >> shift) << shift;
  const network = base === address.value ? address : makeAddress(family, base);
  return { family, address: network, length, text: `${network.text}/${length}` };
}

/** Splits `a.b.c.d/n` into the address as written and its network. @throws TwillError `invalid` */
export function parseCidr(text: string): { address: Address; prefix: Prefix } {
  const [host, length, ...rest] = text.split('/');
  if (host === undefined || length === undefined || rest.length > 0 || !/^\d{1,3}$/.test(length)) {
    throw new TwillError(
      'invalid',
      `'${text}' is not a network in CIDR notation (for example 10.244.0.0/16)`,
    );
  }
  const address = parseAddress(host);
  return { address, prefix: makePrefix(address, Number(length)) };
}

/** Parses a network; host bits that are set are cleared, as Go's net.ParseCIDR does. @throws TwillError `invalid` */
export function parsePrefix(text: string): Prefix {
  return parseCidr(text).prefix;
}

/** Number of addresses in the network. */
export function prefixSize(prefix: Prefix): bigint {
  return 1n << BigInt(prefix.family.bits - prefix.length);
}

/** The address at `offset` within the network; negative offsets count from behind (-1 is the last). */
export function prefixHost(prefix: Prefix, offset: number | bigint): Address {
  const size = prefixSize(prefix);
  const index = BigInt(offset) < 0n ? size + BigInt(offset) : BigInt(offset);
  if (index < 0n || index >= size)
    throw new TwillError('invalid', `${prefix.text} has no address number ${offset}`);
  return makeAddress(prefix.family, prefix.address.value + index);
}

export function prefixContains(prefix: Prefix, address: Address): boolean {
  if (prefix.family !== address.family) return false;
  const shift = BigInt(prefix.family.bits - prefix.length);
  return prefix.address.value >> shift === address.value >> shift;
}

export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address);
}

/** Writes the address as the kernel wants it: 4 or 16 bytes, network byte order. */
export function writeAddress(address: Address, bytes: Uint8Array, at: number): void {
  if (address.family === ipv4) {
    const number = Number(address.value);
    bytes[at] = number >>> 24;
    bytes[at + 1] = number >>> 16;
    bytes[at + 2] = number >>> 8;
    bytes[at + 3] = number;
    return;
  }
  let rest = address.value;
  for (let index = address.family.bytes - 1; index >= 0; index--) {
    bytes[at + index] = Number(rest & 255n);
    rest >>= 8n;
  }
}

/** The address as the kernel wants it: 4 or 16 bytes, network byte order. */
export function addressBytes(address: Address): Uint8Array {
  const bytes = new Uint8Array(address.family.bytes);
  writeAddress(address, bytes, 0);
  return bytes;
}

/** The inverse of {@link addressBytes}; the family follows from the length. @throws TwillError `invalid` */
export function addressFromBytes(bytes: Uint8Array): Address {
  const family = bytes.length === 4 ? ipv4 : bytes.length === 16 ? ipv6 : undefined;
  if (family === undefined)
    throw new TwillError('invalid', `an address has 4 or 16 bytes, not ${bytes.length}`);
  if (family === ipv4) {
    const [a, b, c, d] = bytes as Uint8Array & [number, number, number, number];
    return { family, value: BigInt(a * 0x1000000 + ((b << 16) | (c << 8) | d)), text: `${a}.${b}.${c}.${d}` };
  }
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return makeAddress(family, value);
}

/** MAC addresses are lower-case colon-separated text. */
const macPattern = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** As Go's net.ParseMAC takes them, too: two digits each with dashes, four each with dots. */
const otherMacPattern = /^[0-9a-f]{2}(-[0-9a-f]{2}){5}$|^[0-9a-f]{4}(\.[0-9a-f]{4}){2}$/;

/** Parses a MAC address in any of its three forms into its canonical lower-case text. @throws TwillError `invalid` */
export function parseMac(text: string): string {
  const mac = text.toLowerCase();
  if (otherMacPattern.test(mac)) return mac.replace(/[-.]/g, '').replace(/..(?=.)/g, '$&:');
  if (!macPattern.test(mac)) throw new TwillError('invalid', `'${text}' is not a MAC address`);
  return mac;
}

/** True for a MAC address that one device can have: not all zeros, not a group's. */
export function isUnicastMac(mac: string): boolean {
  return (hexDigit(mac.charCodeAt(1)) & 1) === 0 && mac !== '00:00:00:00:00:00';
}

/** The value of a hexadecimal digit, given as its character code. */
const hexDigit = (code: number): number => (code & 15) + (code > 57 ? 9 : 0);

/** Writes the six bytes of a MAC address. @throws TwillError `invalid` */
export function writeMac(mac: string, bytes: Uint8Array, at: number): void {
  const text = macPattern.test(mac) ? mac : parseMac(mac);
  for (let index = 0; index < 6; index++)
    bytes[at + index] =
      (hexDigit(text.charCodeAt(index * 3)) << 4) | hexDigit(text.charCodeAt(index * 3 + 1));
}

const hexBytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function macFromBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += text === '' ? hexBytes[byte] : `:${hexBytes[byte]}`;
  return text;
}
