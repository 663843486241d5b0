import type { Family } from '../../model/address.ts';
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
 */
export function followRoutes(underlay: Underlay, routes: readonly PeerRoute[]): Underlay {
  if (routes.length === 0) return underlay;
  const carries = underlay.carries.filter((name) =>
    routes.every(({ family, device }) => family !== name || device === underlay.index),
  );
  return { ...underlay, carries, mtu: Math.min(...routes.map(({ mtu }) => mtu)) };
}
