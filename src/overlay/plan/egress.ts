import { leastMtu } from '../../leases/plan/network-config.ts';
import { type Address, type Family, families } from '../../model/address.ts';
import type { Check } from '../../model/health.ts';
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
 * Every link that carries IPv6 takes this much (RFC 8200, section 5), and tunnels between sites more. A node that names an
 * address behind some small device of the others must not make all their packets as small.
 */
const LEAST_FOLLOWED = 1280;

/**
 * The underlay as the routes to the nodes make it: packets are as large as all of them can carry, and are bound to the
 * device with the address only where every route leaves by it. Without routes it stays as it was chosen.
 *
 * A node's public IP is what it says it is. So packets are not made smaller than {@link LEAST_FOLLOWED} for any of them,
 * and a device that was unbound once stays so: to bind it means to make it anew, and any node could ask for that again
 * and again.
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
  const least = Math.min(underlay.mtu, Math.max(leastMtu(inUse, true), LEAST_FOLLOWED));
  return { ...underlay, carries, mtu: Math.max(least, Math.min(...routes.map(({ mtu }) => mtu))) };
}

/** How the kernel sends to another node when nobody tells it by which address. */
export interface UntoldRoute {
  readonly device: number;
  readonly local: boolean;
  readonly source: Address | undefined;
}

/**
 * Where all other nodes are reached by another device, and under another address, than those that were chosen by the way
 * to the outside (a VPN that takes everything, a network for the administrators), the choice is likely wrong.
 * @param nameOf the name of a device
 */
export function likelyWrong(
  underlay: Underlay,
  family: Family,
  routes: readonly (UntoldRoute | undefined)[],
  nameOf: (device: number) => string,
): Check[] {
  const own = underlay.addresses.get(family.name);
  // Our own lease is among them.
  const known = routes.filter((route) => route !== undefined).filter(({ local }) => !local);
  const [first] = known;
  const others = known.every(
    ({ device, source }) => device !== underlay.index && source !== undefined && source.text !== own?.text,
  );
  if (first === undefined || own === undefined || !others) return [];
  const name = nameOf(first.device);
  const detail = `other nodes know this one by ${own.text}, of ${underlay.name}, and packets to them leave by ${name} under ${first.source?.text}: they may not reach it; set --iface=${name}, or --iface=${underlay.name} if that is right`;
  return [{ name: 'underlay', state: 'warning', detail }];
}
