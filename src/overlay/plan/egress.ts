import { leastMtu } from '../../leases/plan/network-config.ts';
import { type Family, families } from '../../model/address.ts';
import type { Underlay } from './device.ts';

/** How packets to another node leave. */
export interface PeerRoute {
  readonly family: Family['name'];
  /** Interface index. */
  readonly device: number;
  /** In bytes: the device's, or a smaller one that the route sets. */
  readonly mtu: number;
}

/**
 * The underlay as the routes to the nodes make it: packets are as large as all of them can carry, and are bound to the
 * device with the address only where every route leaves by it. Without routes it stays as it was chosen.
 *
 * A node's public IP is what it says it is. So a way that no packet of a pod would fit in counts for nothing, and a
 * device that was unbound once stays so: to bind it means to make it anew, and any node could ask for that again and
 * again.
 * @param before what this has made of the same choice, or what stands
 */
export function followRoutes(
  underlay: Underlay,
  routes: readonly PeerRoute[],
  before: Pick<Underlay, 'carries'> = underlay,
): Underlay {
  const carries = underlay.carries.filter(
    (name) =>
      before.carries.includes(name) &&
      routes.every(({ family, device }) => family !== name || device === underlay.index),
  );
  if (routes.length === 0) return { ...underlay, carries };
  const inUse = families.filter(({ name }) => underlay.addresses.has(name));
  const least = Math.min(underlay.mtu, leastMtu(inUse, true));
  return { ...underlay, carries, mtu: Math.max(least, Math.min(...routes.map(({ mtu }) => mtu))) };
}
