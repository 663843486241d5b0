/**
 * Reading values nobody vouches for (parsed JSON or YAML): each function returns a checked value or throws a TwillError
 * that names the field and shows the value, cut and escaped.
 */

import {
  type Address,
  type Family,
  ipv4,
  ipv6,
  makeAddress,
  makePrefix,
  type Prefix,
  parsePrefix,
  tryParseAddress,
  withoutLeadingZeros,
} from './address.ts';
import { describeError, TwillError } from './error.ts';
import type { Protocol } from './flow.ts';

export type Json = Record<string, unknown>;

/** A DNS label, as names of Services and ports are. */
export const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
export const subdomain = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

const MAX_SHOWN = 60;

export function object(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The value for a message: quoted, control characters escaped, cut. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

export function fail(field: string, what: string, value: unknown): never {
  throw new TwillError('invalid', `${field}: ${shown(value)} ${what}`);
}

export function portNumber(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65_535) {
    fail(field, 'is not a port number between 1 and 65535', value);
  }
  return value;
}

export function optionalPort(value: unknown, field: string): number {
  return value === undefined || value === null || value === 0 ? 0 : portNumber(value, field);
}

export function protocol(value: unknown, field: string): Protocol {
  const text = value ?? 'TCP';
  if (text !== 'TCP' && text !== 'UDP' && text !== 'SCTP') fail(field, 'is not TCP, UDP or SCTP', value);
  return text;
}

export function portName(value: unknown, field: string): string {
  if (value === undefined || value === null || value === '') return '';
  if (typeof value !== 'string' || !label.test(value)) fail(field, 'is not a valid port name', value);
  return value;
}

/** Runs `read` on each item; what throws is left out and its message collected. */
export function collect<T>(
  values: readonly unknown[],
  field: string,
  problems: string[],
  read: (value: unknown, field: string) => T,
): T[] {
  const result: T[] = [];
  values.forEach((value, index) => {
    try {
      result.push(read(value, `${field}[${index}]`));
    } catch (error) {
      problems.push(describeError(error));
    }
  });
  return result;
}

const octet = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const dottedQuad = new RegExp(`^${octet}(?:\\.${octet}){3}$`);

/** The family and canonical text of an address. Canonical IPv4 is taken as it stands: there are tens of thousands. */
export function canonical(value: unknown, field: string): { family: Family; text: string } {
  if (typeof value === 'string' && dottedQuad.test(value)) return { family: ipv4, text: value };
  const parsed = tryParseAddress(typeof value === 'string' ? withoutLeadingZeros(value) : undefined);
  if (parsed === undefined) fail(field, 'is not an IP address', value);
  return makeAddress(parsed.family, parsed.value);
}

export function address(value: unknown, field: string): string {
  return canonical(value, field).text;
}

/** Go takes an IPv4 address in the form of IPv6 (`::ffff:192.0.2.1`) for the IPv4 address. */
export function unmapped(address: Address): Address {
  const { family, value } = address;
  return family === ipv6 && value >> 32n === 0xffffn ? makeAddress(ipv4, value & 0xffff_ffffn) : address;
}

/** An address as Kubernetes reads it, {@link withoutLeadingZeros} and {@link unmapped}; undefined for what is none. */
export function kubeAddress(text: string): Address | undefined {
  const address = tryParseAddress(withoutLeadingZeros(text));
  return address && unmapped(address);
}

/** How long the prefix is behind which IPv4 addresses are among those of IPv6 (`::ffff:0:0/96`). */
const MAPPED_BITS = 96;

/** A network as Kubernetes reads it: {@link withoutLeadingZeros}, and IPv4 addresses written as IPv6 ones are IPv4. */
export function kubeNetwork(text: string): Prefix {
  const prefix = parsePrefix(withoutLeadingZeros(text));
  const inner = unmapped(prefix.address);
  if (inner === prefix.address || prefix.length < MAPPED_BITS) return prefix;
  return makePrefix(inner, prefix.length - MAPPED_BITS);
}

/** A network in canonical notation. */
export function cidr(value: unknown, field: string): string {
  try {
    return kubeNetwork(String(value).trim()).text;
  } catch {
    return fail(field, 'is not a network in CIDR notation', value);
  }
}
