import { type Address, ipv4, makeAddress, prefixSize } from '../../model/address.ts';
import type { PodNetworkFamily } from '../../model/pod-network.ts';
import type { Interval } from './ranges.ts';

/** The addresses of the subnet that pods may have: not the network's own, or IPv4's broadcast address. */
function bounds({ family, subnet }: PodNetworkFamily): Interval {
  const size = prefixSize(subnet);
  const base = subnet.address.value;
  return { first: base + 1n, last: base + (family === ipv4 ? size - 2n : size - 1n) };
}

/** How many pods a subnet has room for. */
export function capacity(network: PodNetworkFamily): bigint {
  const { first, last } = bounds(network);
  return last < first ? 0n : last - first; // the gateway is one of the range
}

/** The bounds, or the parts of these intervals that are within; sorted. */
function usable(network: PodNetworkFamily, only: readonly Interval[] | undefined): Interval[] {
  const whole = bounds(network);
  return (only ?? [whole])
    .map(({ first, last }) => ({
      first: first < whole.first ? whole.first : first,
      last: last > whole.last ? whole.last : last,
    }))
    .filter(({ first, last }) => first <= last);
}

/** True when pods may have this address of the subnet. @param only where it must be from; default the whole subnet */
export function isPodAddress(
  network: PodNetworkFamily,
  { value }: Address,
  only?: readonly Interval[] | undefined,
): boolean {
  const inside = usable(network, only).some(({ first, last }) => value >= first && value <= last);
  return inside && value !== network.gateway.value;
}

/** The next address behind `value`, round the intervals. */
function following(intervals: readonly Interval[], value: bigint): bigint {
  for (const { first, last } of intervals) {
    if (value < first) return first;
    if (value < last) return value + 1n;
  }
  return intervals[0]!.first;
}

/**
 * The free address that was not used for longest: the next one after `last`, round the subnet.
 * @param used addresses in use, as canonical text
 * @param last the address given out most recently, if it is known
 * @param only where it must be from, sorted; default the whole subnet
 * @returns undefined when there is none left
 */
export function chooseAddress(
  network: PodNetworkFamily,
  used: ReadonlySet<string>,
  last: Address | undefined,
  only?: readonly Interval[] | undefined,
): Address | undefined {
  const { gateway, family } = network;
  const intervals = usable(network, only);
  const final = intervals.at(-1);
  if (final === undefined) return undefined;
  const size = intervals.reduce((sum, interval) => sum + interval.last - interval.first + 1n, 0n);
  let value = last?.family === family ? last.value : final.last;
  // Among used.size + 2 successive addresses one is free: at most `used` and the gateway are taken.
  for (let tries = 0; tries < used.size + 2 && BigInt(tries) < size; tries++) {
    value = following(intervals, value);
    const address = makeAddress(family, value);
    if (value !== gateway.value && !used.has(address.text)) return address;
  }
  return undefined;
}
