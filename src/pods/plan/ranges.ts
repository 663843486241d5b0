import {
  type Address,
  type Family,
  ipv4,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixSize,
} from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import type { PodNetwork, PodNetworkFamily } from '../../model/pod-network.ts';

/** A range of host-local's, as a configuration has it. */
export interface WantedRange {
  /** Where it stands, for errors. */
  readonly field: string;
  readonly subnet: string | undefined;
  readonly rangeStart: string | undefined;
  readonly rangeEnd: string | undefined;
  readonly gateway: string | undefined;
}

/** Address values from `first` to `last`, both included. */
export interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

/** By family: where a pod's address is to be from. A family that is not in it may use its whole subnet. */
export type Ranges = ReadonlyMap<Family, readonly Interval[]>;

const wrong = (field: string, value: string, why: string): TwillError =>
  new TwillError('invalid', `network configuration: ${field} is "${value}", ${why}`);

function familyOf(range: WantedRange): Family | undefined {
  const text = range.subnet ?? range.rangeStart ?? range.rangeEnd ?? range.gateway;
  if (text === undefined) return undefined;
  return range.subnet === undefined ? parseAddress(text).family : parsePrefix(text).family;
}

function within(
  range: WantedRange,
  name: 'rangeStart' | 'rangeEnd',
  own: PodNetworkFamily,
): bigint | undefined {
  const text = range[name];
  if (text === undefined) return undefined;
  const address: Address = parseAddress(text);
  if (!prefixContains(own.subnet, address))
    throw wrong(`${range.field}.${name}`, text, `which is not in this node's subnet ${own.subnet.text}`);
  return address.value;
}

function interval(range: WantedRange, own: PodNetworkFamily): Interval {
  const { subnet: lease, gateway } = own;
  const subnet = range.subnet === undefined ? lease : parsePrefix(range.subnet);
  if (subnet.length < lease.length || !prefixContains(lease, subnet.address))
    throw wrong(`${range.field}.subnet`, subnet.text, `which is outside of this node's subnet ${lease.text}`);
  if (range.gateway !== undefined && parseAddress(range.gateway).text !== gateway.text)
    throw wrong(
      `${range.field}.gateway`,
      range.gateway,
      `and the gateway of this node's pods is ${gateway.text}`,
    );
  const lowest = subnet.address.value;
  const highest = lowest + prefixSize(subnet) - 1n;
  const first = within(range, 'rangeStart', own) ?? lowest;
  const last = within(range, 'rangeEnd', own) ?? (own.family === ipv4 ? highest - 1n : highest);
  if (first > last || first < lowest || last > highest)
    throw wrong(
      range.field,
      `${range.rangeStart ?? ''}-${range.rangeEnd ?? ''}`,
      `which is no range of ${subnet.text}`,
    );
  return { first, last };
}

/**
 * The ranges that the configuration wants of this node's subnets.
 * @param sets each stands for one address of a pod
 * @throws TwillError `invalid` naming the field that asks for something else than a part of the node's subnet
 */
export function planRanges(network: PodNetwork, sets: readonly (readonly WantedRange[])[]): Ranges {
  const result = new Map<Family, readonly Interval[]>();
  for (const set of sets) {
    const named = set.filter((range) => familyOf(range) !== undefined);
    const [first] = named;
    if (first === undefined) continue;
    const family = familyOf(first);
    const own = network.families.find((candidate) => candidate.family === family);
    const value = first.subnet ?? first.rangeStart ?? first.rangeEnd ?? first.gateway ?? '';
    if (family === undefined || own === undefined)
      throw wrong(first.field, value, 'and this node has no subnet of that family');
    if (result.has(family)) throw wrong(first.field, value, `and a pod has one ${family.kubeName} address`);
    if (named.some((range) => familyOf(range) !== family))
      throw wrong(first.field, value, 'and a set has ranges of one family');
    const intervals = named.map((range) => interval(range, own));
    result.set(
      family,
      intervals.sort((a, b) => (a.first < b.first ? -1 : 1)),
    );
  }
  return result;
}
