/** Expressions of `nft -j` (libnftables-json(5)), and what they are for a packet. */
import type { Surroundings } from './chains.ts';
import { type Fraction, fraction, times, whole } from './fraction.ts';
import { trackingNames } from './iptables-matches.ts';
import { classNumber, holds, type Json, keyText, readValue, type Value } from './nft-texts.ts';
import type { Packet } from './packet.ts';

/** One value that an expression may have, and how often. */
export interface Alternative {
  readonly value: Value;
  readonly share: Fraction;
}

/** The packet has no such thing, or a map no such key: the rule ends there (NFT_BREAK). */
export const absent = Symbol('absent');
/** It cannot be told here. */
export const unknown = Symbol('unknown');

export type Evaluated = readonly Alternative[] | typeof absent | typeof unknown;

/** How the sets of a table are keyed: names of types, of keys and values. */
export interface SetTypes {
  readonly key: readonly string[];
  readonly data: readonly string[];
}

export interface Evaluation {
  readonly packet: Packet;
  readonly surroundings: Surroundings;
  /** `ip twill-services`, in front of the names of sets. */
  readonly table: string;
  readonly sets: ReadonlyMap<string, SetTypes>;
}

const certain = (value: Value | undefined | typeof unknown): Evaluated =>
  value === undefined ? absent : value === unknown ? unknown : [{ value, share: whole }];

function numberOf(value: Value): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'string' ? classNumber(value) : undefined;
}

const transports = new Set(['tcp', 'udp', 'sctp']);

function payload(packet: Packet, protocol: string, field: string): Value | undefined | typeof unknown {
  const isV4 = packet.family.name === 'ipv4';
  if (protocol === 'ip' || protocol === 'ip6') {
    if ((protocol === 'ip') !== isV4) return undefined;
    if (field === 'saddr') return packet.source;
    if (field === 'daddr') return packet.destination;
    if (field === 'protocol' || field === 'nexthdr') return packet.protocol;
    return field === 'version' ? (isV4 ? 4 : 6) : unknown;
  }
  if (protocol === 'th' || transports.has(protocol)) {
    if (protocol !== 'th' && protocol !== packet.protocol) return undefined;
    if (field === 'dport') return packet.port ?? unknown;
    if (field === 'sport') return packet.sourcePort ?? unknown;
    if (field === 'flags') return packet.opening ? ['syn'] : ['syn', 'ack'];
    return unknown;
  }
  return /^(icmp|icmpv6|igmp|dccp|ah|esp|comp|udplite|gre)$/.test(protocol) ? undefined : unknown;
}

function meta(packet: Packet, key: string): Value | undefined | typeof unknown {
  switch (key) {
    case 'l4proto':
      return packet.protocol;
    case 'nfproto':
      return packet.family.name;
    case 'protocol':
      return packet.family.nft;
    case 'iif':
    case 'iifname':
      return packet.inDevice ?? '';
    case 'oif':
    case 'oifname':
      return packet.outDevice ?? '';
    case 'mark':
      return packet.mark;
    case 'priority':
      return packet.priority ?? 0;
    case 'pkttype':
      return 'host';
    default:
      return unknown;
  }
}

function tracked(
  packet: Packet,
  key: string,
  direction: string | undefined,
): Value | undefined | typeof unknown {
  const { tracking } = packet;
  const names = trackingNames(packet).map((name) => name.toLowerCase());
  if (key === 'state') return names.slice(0, 1);
  if (tracking === undefined) return undefined;
  const { original } = tracking;
  switch (`${direction === 'original' ? 'original ' : ''}${key}`) {
    case 'status':
      return [
        ...names.slice(1),
        ...(tracking.state === 'established' ? ['seen-reply', 'assured', 'confirmed'] : []),
      ];
    case 'mark':
      return tracking.mark;
    case 'direction':
      return tracking.direction;
    case 'original saddr':
    case 'original ip saddr':
    case 'original ip6 saddr':
      return original.source;
    case 'original daddr':
    case 'original ip daddr':
    case 'original ip6 daddr':
      return original.destination;
    case 'original proto-dst':
      return original.port ?? unknown;
    case 'original protocol':
      return packet.protocol;
    default:
      return unknown;
  }
}

/** Every combination of what parts may be. */
function combined(
  parts: readonly Evaluated[],
  make: (values: readonly Value[]) => Value | undefined,
): Evaluated {
  let rows: { values: Value[]; share: Fraction }[] = [{ values: [], share: whole }];
  for (const part of parts) {
    if (part === absent || part === unknown) return part;
    rows = rows.flatMap(({ values, share }) =>
      part.map((one) => ({ values: [...values, one.value], share: times(share, one.share) })),
    );
  }
  const made = rows.map(({ values, share }) => ({ value: make(values), share }));
  return made.some(({ value }) => value === undefined) ? unknown : (made as Alternative[]);
}

const operators: Readonly<Record<string, (a: number, b: number) => number>> = {
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => a << b,
  '>>': (a, b) => a >>> b,
};

function operate(operator: string, [left, right]: readonly Value[]): Value | undefined {
  // Flags by their names.
  if (Array.isArray(left) && operator === '&') {
    const wanted = Array.isArray(right) ? right : [right];
    return left.filter((one) => wanted.includes(one));
  }
  const [a, b] = [numberOf(left!), numberOf(right!)];
  return a === undefined || b === undefined ? undefined : operators[operator]!(a, b) >>> 0;
}

function numbers({ mod, offset = 0 }: { mod?: Json; offset?: Json }): Evaluated {
  const count = Number(mod);
  const share = fraction(1, count);
  return Array.from({ length: count }, (_, index) => ({ value: index + Number(offset), share }));
}

function fib({ packet, surroundings }: Evaluation, about: { result?: Json; flags?: Json }): Evaluated {
  const flags = about.flags as readonly string[];
  if (about.result !== 'type') return unknown;
  const address = flags.includes('daddr') ? packet.destination : packet.source;
  return certain(surroundings.addressType(address).toLowerCase());
}

/** What an expression is for a packet. */
export function evaluate(expression: Json, evaluation: Evaluation): Evaluated {
  if (expression === null) return unknown;
  if (typeof expression !== 'object') return certain(expression);
  if (Array.isArray(expression))
    return combined(
      expression.map((part) => evaluate(part, evaluation)),
      (values) => values,
    );
  const [[name, about] = ['', null]] = Object.entries(expression as Record<string, Json>);
  const fields = (typeof about === 'object' && about !== null ? about : {}) as Record<string, Json>;
  const { packet } = evaluation;
  switch (name) {
    case 'payload':
      return certain(payload(packet, String(fields.protocol), String(fields.field)));
    case 'meta':
      return certain(meta(packet, String(fields.key)));
    case 'ct':
      return certain(tracked(packet, String(fields.key), fields.dir as string | undefined));
    case 'concat':
      return combined(
        (about as readonly Json[]).map((part) => evaluate(part, evaluation)),
        (values) => values,
      );
    case 'numgen':
    case 'jhash':
    case 'symhash':
      return numbers(fields);
    case 'fib':
      return fib(evaluation, fields);
    case 'map':
      return lookUp(fields, evaluation);
    default:
      if (operators[name] === undefined) return unknown;
      return combined(
        (about as readonly Json[]).map((part) => evaluate(part, evaluation)),
        (values) => operate(name, values),
      );
  }
}

/** The value that a map has for a key. */
function lookUp({ key = null, data = null }: Record<string, Json>, evaluation: Evaluation): Evaluated {
  const keys = evaluate(key, evaluation);
  if (keys === absent || keys === unknown) return keys;
  const found: Alternative[] = [];
  for (const { value, share } of keys) {
    const entry = mapped(data, value, evaluation);
    if (entry === undefined) return absent;
    const inner = evaluate(entry, evaluation);
    if (inner === absent || inner === unknown) return inner;
    found.push(...inner.map((one) => ({ value: one.value, share: times(share, one.share) })));
  }
  return found;
}

/** What stands behind a key: of a named map, or of one in the rule. */
export function mapped(data: Json, key: Value, evaluation: Evaluation): Json | undefined {
  if (typeof data === 'string') {
    const element = namedElement(data, key, evaluation);
    const types = evaluation.sets.get(data.slice(1));
    return element?.value === undefined ? undefined : (readValue(element.value, types?.data ?? []) as Json);
  }
  const list = ((data as { set?: Json }).set ?? []) as readonly (readonly [Json, Json])[];
  return list.find(([one]) => holds(one, key))?.[1];
}

export function namedElement(set: string, key: Value, { surroundings, table, sets }: Evaluation) {
  const types = sets.get(set.slice(1))?.key;
  const parts = Array.isArray(key) ? (key as readonly Value[]) : [key];
  return surroundings.element(
    `${table} ${set.slice(1)}`,
    parts.map((part, index) => keyText(part, types?.[index])),
  );
}
