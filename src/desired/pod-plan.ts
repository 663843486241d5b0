import {
  type Address,
  addressBytes,
  ipv4,
  macFromBytes,
  makeAddress,
  makePrefix,
  type Prefix,
  prefixContains,
} from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { PodNetwork } from '../model/pod-network.ts';

/** One address of a pod with what goes with it. */
export interface PlannedAddress {
  readonly address: Address;
  readonly subnet: Prefix;
  readonly gateway: Address;
}

export interface PlannedRoute {
  readonly destination: Prefix;
  readonly gateway: Address;
}

/** Everything the kernel is told for one pod interface. */
export interface PodPlan {
  readonly ifname: string;
  readonly hostVeth: string;
  readonly mac: string;
  readonly hostMac: string;
  readonly mtu: number;
  readonly addresses: readonly PlannedAddress[];
  readonly routes: readonly PlannedRoute[];
}

/**
 * MAC made from the first address (0a:58 and the four bytes of IPv4, as flannel's bridge has it; the last four bytes
 * of IPv6): who gets an address again has the same MAC, so no neighbour cache is ever wrong about it.
 */
export function macOf(address: Address): string {
  return macFromBytes(Uint8Array.of(0x0a, 0x58, ...addressBytes(address).slice(-4)));
}

/** @param names `hostVeth` and `hostMac` belong to the attachment and stay the same over its life */
export function planPod(
  network: PodNetwork,
  addresses: readonly Address[],
  names: { readonly ifname: string; readonly hostVeth: string; readonly hostMac: string },
): PodPlan {
  const first = addresses.find((address) => address.family === ipv4) ?? addresses[0];
  if (first === undefined) throw new TwillError('internal', 'a pod needs an address');
  const planned = addresses.map((address): PlannedAddress => {
    const family = network.families.find(({ subnet }) => prefixContains(subnet, address));
    if (family === undefined)
      throw new TwillError('internal', `${address.text} is in none of this node's subnets`);
    return { address, subnet: family.subnet, gateway: family.gateway };
  });
  const routes = network.families
    .filter(({ family }) => planned.some(({ address }) => address.family === family))
    .flatMap(({ networks, family, gateway, subnet }) => [
      // The bridge is on the pod's own subnet already, by the address's prefix.
      ...networks
        .filter((destination) => destination.text !== subnet.text)
        .map((destination): PlannedRoute => ({ destination, gateway })),
      { destination: makePrefix(makeAddress(family, 0n), 0), gateway },
    ]);
  return { ...names, mac: macOf(first), mtu: network.mtu, addresses: planned, routes };
}
