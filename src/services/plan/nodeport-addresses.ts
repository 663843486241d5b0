/** What `--nodeport-addresses` means on this node, as kube-proxy reads it (pkg/proxy/util/nodeport_addresses.go). */
import {
  type Family,
  ipv4,
  isLinkLocal,
  type Prefix,
  parseAddress,
  prefixContains,
} from '../../model/address.ts';
import type { NodeFacts } from './service.ts';

/** undefined: all addresses of the node; `primary`: those its Node object names. */
export type NodePortAddresses = readonly Prefix[] | 'primary' | undefined;

const loopback = parseAddress('127.0.0.0');

/** The networks of one family; undefined when every address serves, as in a family of which none is named. */
function networks(wanted: readonly Prefix[], family: Family): readonly Prefix[] | undefined {
  const named = wanted.filter((prefix) => prefix.family === family);
  return named.length === 0 || named.some(({ length }) => length === 0) ? undefined : named;
}

/** True where networks are given and none is of this family: its node ports answer on all addresses then, unasked. */
export function isFamilyUnnamed(wanted: NodePortAddresses, family: Family): boolean {
  return typeof wanted === 'object' && !wanted.some((prefix) => prefix.family === family);
}

/** True when node ports are to answer on 127.0.0.1, too. */
export function servesLoopback(wanted: NodePortAddresses): boolean {
  if (wanted === 'primary') return false;
  const named = wanted === undefined ? undefined : networks(wanted, ipv4);
  return (
    named === undefined ||
    named.some((prefix) => prefixContains(prefix, loopback) || prefix.text.startsWith('127.'))
  );
}

/**
 * Which of this node's addresses in one family serve node ports and health check ports, sorted; undefined for all.
 * @param own canonical addresses of the node in that family
 */
export function nodePortAddresses(
  wanted: NodePortAddresses,
  family: Family,
  own: readonly string[],
  facts: NodeFacts | undefined,
): string[] | undefined {
  if (wanted === undefined) return undefined;
  const all = [...new Set(own)].sort();
  if (wanted === 'primary') return all.filter((text) => facts?.addresses.includes(text));
  const named = networks(wanted, family);
  return named && all.filter((text) => named.some((prefix) => prefixContains(prefix, parseAddress(text))));
}

/**
 * This node's addresses as its Node names them, at most one of each family; all it has while that is not known.
 * @param own canonical
 */
export function ownAddresses(family: Family, own: readonly string[], facts: NodeFacts | undefined): string[] {
  const named = facts?.addresses ?? [];
  if (named.length > 0) return named.filter((text) => parseAddress(text).family === family);
  // Link-local ones come and go with the interfaces of pods.
  return own.filter((text) => !isLinkLocal(parseAddress(text)));
}

/** True for an address of a loopback interface. */
export function isLoopback(text: string): boolean {
  return text.startsWith('127.') || text === '::1';
}
