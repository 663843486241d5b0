import { type Address, ipv4, makeAddress, prefixSize } from '../../model/address.ts';
import type { PodNetworkFamily } from '../../model/pod-network.ts';

/** Offsets within the subnet that pods may have: not the network's own, the gateway's, or IPv4's broadcast address. */
function range({ family, subnet }: PodNetworkFamily): { first: bigint; last: bigint } {
  const size = prefixSize(subnet);
  return { first: 1n, last: family === ipv4 ? size - 2n : size - 1n };
}

/** How many pods a subnet has room for. */
export function capacity(network: PodNetworkFamily): bigint {
  const { first, last } = range(network);
  return last < first ? 0n : last - first; // the gateway is one of the range
}

/** True when pods may have this address of the subnet. */
export function isPodAddress(network: PodNetworkFamily, { value }: Address): boolean {
  const { first, last } = range(network);
  const offset = value - network.subnet.address.value;
  return offset >= first && offset <= last && value !== network.gateway.value;
}

/**
 * The free address that was not used for longest: the next one after `last`, round the subnet.
 * @param used addresses in use, as canonical text
 * @param last the address given out most recently, if it is known
 * @returns undefined when the subnet is full
 */
export function chooseAddress(
  network: PodNetworkFamily,
  used: ReadonlySet<string>,
  last: Address | undefined,
): Address | undefined {
  const { subnet, gateway, family } = network;
  const bounds = range(network);
  if (bounds.last < bounds.first) return undefined;
  const base = subnet.address.value;
  const lowest = base + bounds.first;
  const highest = base + bounds.last;
  const inside = last?.family === family && last.value >= lowest && last.value <= highest;
  let value = inside ? last.value : highest;
  // Among used.size + 2 successive addresses one is free: at most `used` and the gateway are taken.
  for (let tries = 0; tries < used.size + 2; tries++) {
    value = value >= highest ? lowest : value + 1n;
    const address = makeAddress(family, value);
    if (value !== gateway.value && !used.has(address.text)) return address;
    if (BigInt(tries) >= highest - lowest) return undefined;
  }
  return undefined;
}
