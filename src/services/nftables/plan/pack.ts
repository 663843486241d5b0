/**
 * Keys and values of set elements as the kernel keeps them, in strings of one character a byte: they compare and hash
 * fast, and take little memory. Parts of a concatenation are padded to four bytes.
 */
import { addressBytes, addressFromBytes, parseAddress } from '../../../model/address.ts';
import type { Protocol } from '../../../model/flow.ts';
import type { Field } from './names.ts';

const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const protocolNames: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

const bytes = String.fromCharCode;

const DOT = 46;
const ZERO = 48;

/** Every change packs the addresses of all endpoints: no text is made but the one that is wanted. */
function packIpv4(text: string): string {
  const parts = [0, 0, 0, 0];
  let part = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) part++;
    else parts[part] = parts[part]! * 10 + code - ZERO;
  }
  return bytes(parts[0]!, parts[1]!, parts[2]!, parts[3]!);
}

/** @param text canonical */
export function packAddress(text: string): string {
  if (!text.includes(':')) return packIpv4(text);
  return bytes(...addressBytes(parseAddress(text)));
}

export function packProtocol(protocol: Protocol): string {
  return bytes(protocolNumbers[protocol], 0, 0, 0);
}

export function packPort(port: number): string {
  return bytes(port >> 8, port & 255, 0, 0);
}

/** Numbers are in the machine's byte order, which is little-endian. */
export function packNumber(value: number): string {
  return bytes(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
}

export function unpackNumber(packed: string, at = 0): number {
  const byte = (offset: number): number => packed.charCodeAt(at + offset);
  return ((byte(3) << 24) | (byte(2) << 16) | (byte(1) << 8) | byte(0)) >>> 0;
}

/** A network's first and last address. */
export function packRange(network: {
  readonly first: bigint;
  readonly last: bigint;
  readonly bytes: number;
}): {
  first: string;
  last: string;
} {
  const pack = (value: bigint): string => {
    let text = '';
    for (let rest = value, index = 0; index < network.bytes; index++, rest >>= 8n)
      text = bytes(Number(rest & 255n)) + text;
    return text;
  };
  return { first: pack(network.first), last: pack(network.last) };
}

export function fieldBytes(field: Field, v6: boolean): number {
  return field === 'address' && v6 ? 16 : 4;
}

export function packedBytes(fields: readonly Field[], v6: boolean): number {
  return fields.reduce((sum, field) => sum + fieldBytes(field, v6), 0);
}

function fieldText(field: Field, part: string): string {
  switch (field) {
    case 'address':
      return addressFromBytes(Uint8Array.from(part, (char) => char.charCodeAt(0))).text;
    case 'protocol':
      return protocolNames[part.charCodeAt(0)] ?? String(part.charCodeAt(0));
    case 'port':
      return String(part.charCodeAt(0) * 256 + part.charCodeAt(1));
    case 'index':
      return String(unpackNumber(part));
    case 'id': {
      const id = unpackNumber(part);
      return `${(id >>> 16).toString(16)}:${(id & 0xffff).toString(16)}`;
    }
  }
}

/** As nft writes it. What has no key is there for every one that has none of its own. */
export function packedText(fields: readonly Field[], packed: string, v6: boolean): string {
  if (packed === '') return '*';
  let at = 0;
  const texts = fields.map((field) => {
    const end = at + fieldBytes(field, v6);
    const text = fieldText(field, packed.slice(at, end));
    at = end;
    return text;
  });
  return texts.join(' . ');
}
