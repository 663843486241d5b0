import { type Address, type Prefix, parseAddress, prefixContains } from '../../model/address.ts';
import { isNameless } from './adoption.ts';
import { addressesOf, type PodKey, type PodRecord, type PortMapping } from './pod.ts';
import { isOfContainer, type PluginRules } from './portmap.ts';
import type { Reservation } from './resident.ts';

/** By what is known which rules and devices plugins made for a pod that is deleted. */
export interface Traces {
  /** Addresses that it has had and no other container has now. */
  readonly addresses: ReadonlySet<string>;
  /** The networks that it may have been in; empty for one without a name. */
  readonly networks: ReadonlySet<string>;
}

/**
 * @param record undefined where there is none
 * @param files what host-local held for it; a file may be of a pod that is long gone, and its address another's by now
 * @param all every attachment
 */
export function tracesOf(
  key: PodKey,
  record: PodRecord | undefined,
  files: readonly Reservation[],
  all: readonly PodRecord[],
): Traces {
  const others = all.filter(({ containerId }) => containerId !== key.containerId);
  const used = new Set(others.flatMap(addressesOf));
  const own = [...(record === undefined ? [] : addressesOf(record)), ...files.map(({ address }) => address)];
  return {
    addresses: new Set(own.filter((address) => !used.has(address))),
    networks: new Set([key.network, record?.network ?? '', ...files.map(({ network }) => network)]),
  };
}

/**
 * True for rules that were made for this interface; a container may have others, with rules of their own.
 * @param own its addresses
 */
export function areOf(
  rules: PluginRules,
  { containerId, ifname }: PodKey,
  own: ReadonlySet<string>,
): boolean {
  const isAbout = rules.addresses.some((address) => own.has(address));
  if (rules.containerId === '') return isAbout;
  const isOwn = isOfContainer(rules, containerId) && (rules.ifname ?? ifname) === ifname;
  return isOwn && (isAbout || rules.addresses.length === 0 || own.size === 0);
}

/**
 * True for rules of a container that is gone: about addresses of this node's subnets that none of the pods that stand has.
 * @param held addresses that others have
 */
export function areDead(
  rules: PluginRules,
  standing: readonly PodRecord[],
  held: Iterable<string>,
  subnets: readonly Prefix[],
): boolean {
  if (standing.some(({ containerId }) => isOfContainer(rules, containerId))) return false;
  // Those of pods that stand and are not ours to look after are somebody's, too.
  const somebodys = rules.containerId === '' ? standing : standing.filter(isNameless);
  const used = new Set([...held, ...somebodys.flatMap(addressesOf)]);
  const isOurs = (address: Address): boolean => subnets.some((subnet) => prefixContains(subnet, address));
  const { addresses } = rules;
  return addresses.length > 0 && addresses.every((text) => isOurs(parseAddress(text)) && !used.has(text));
}

/** Addresses of adopted pods that have a host port which is claimed. */
export function displacedBy(claimed: readonly PortMapping[], all: readonly PodRecord[]): Set<string> {
  const name = ({ protocol, hostPort }: PortMapping): string => `${protocol} ${hostPort}`;
  const ports = new Set(claimed.map(name));
  const before = all.filter(
    ({ adopted, portMappings }) => adopted === true && portMappings.some((one) => ports.has(name(one))),
  );
  return new Set(before.flatMap(addressesOf));
}
