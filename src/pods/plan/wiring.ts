import { leastMtu } from '../../leases/plan/network-config.ts';
import {
  type Address,
  addressBytes,
  ipv4,
  macFromBytes,
  makeAddress,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import type { PodNetwork, PodNetworkFamily } from '../../model/pod-network.ts';

/** One address of a pod with what goes with it. */
export interface PlannedAddress {
  readonly address: Address;
  readonly subnet: Prefix;
  readonly gateway: Address;
}

/** What of a route a configuration may choose, with the kernel's meaning. */
interface RouteSettings {
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
  readonly priority?: number | undefined;
  readonly table?: number | undefined;
  readonly scope?: number | undefined;
}

export interface PlannedRoute extends RouteSettings {
  readonly destination: Prefix;
  /** undefined for a network on the link. */
  readonly gateway: Address | undefined;
}

/** A route that a configuration adds. */
export interface ExtraRoute extends RouteSettings {
  readonly dst: string;
  readonly gw: string | undefined;
}

/** RT_TABLE_UNSPEC and RT_TABLE_MAIN mean the same. */
const mainTables: readonly number[] = [0, 254];
/** RT_SCOPE_LINK: from here on a route has no gateway. */
export const SCOPE_LINK = 253;

/** Everything the kernel is told for one pod interface. */
export interface PodPlan {
  readonly ifname: string;
  readonly hostVeth: string;
  readonly mac: string;
  readonly hostMac: string;
  readonly mtu: number;
  readonly hairpin: boolean;
  /** Whether the bridge keeps the port from other isolated ones; undefined where it was never asked. */
  readonly isolated: true | undefined;
  readonly detectDuplicates: boolean;
  /** False leaves the interface down. */
  readonly up: boolean;
  readonly addresses: readonly PlannedAddress[];
  readonly routes: readonly PlannedRoute[];
}

/** What the network configuration may choose. */
export interface PodOptions {
  /** In bytes; undefined for the overlay's. */
  readonly mtu: number | undefined;
  readonly hairpin: boolean;
  readonly defaultRoute: boolean;
  /** Further routes; without `gw` by the gateway of their family. */
  readonly routes: readonly ExtraRoute[];
  readonly mac: string | undefined;
  readonly isolated: boolean;
  readonly detectDuplicates: boolean;
  /** False leaves the interface down. */
  readonly containerInterface: boolean;
}

/**
 * MAC made from the first address (0a:58 and the four bytes of IPv4, as flannel's bridge has it; the last four bytes
 * of IPv6): who gets an address again has the same MAC, so no neighbour cache is ever wrong about it.
 */
export function macOf(address: Address): string {
  return macFromBytes(Uint8Array.of(0x0a, 0x58, ...addressBytes(address).slice(-4)));
}

function parseGateway(text: string, destination: Prefix): Address {
  const gateway = parseAddress(text);
  if (gateway.family === destination.family) return gateway;
  throw new TwillError(
    'invalid',
    `network configuration: ipam.routes.gw is "${text}", which is not supported: ${destination.text} is of the other family`,
  );
}

function planRoutes(families: readonly PodNetworkFamily[], options: PodOptions): PlannedRoute[] {
  const natural = families.flatMap(({ network, family, gateway, subnet }): PlannedRoute[] => [
    // The bridge is on the pod's own subnet already, by the address's prefix.
    ...(network.text === subnet.text ? [] : [{ destination: network, gateway }]),
    ...(options.defaultRoute ? [{ destination: makePrefix(makeAddress(family, 0n), 0), gateway }] : []),
  ]);
  // Twice the same is once, and no conflict with itself.
  const asked = new Map(options.routes.map((route) => [JSON.stringify(route), route]));
  const extra = [...asked.values()].flatMap(({ dst, gw, ...settings }): PlannedRoute[] => {
    const destination = parsePrefix(dst);
    const own = families.find(({ family }) => family === destination.family);
    if (own === undefined) return [];
    const usual = (settings.scope ?? 0) < SCOPE_LINK ? own.gateway : undefined;
    const gateway = gw === undefined ? usual : parseGateway(gw, destination);
    return [{ destination, gateway, ...settings }];
  });
  // One of another table does not replace anything.
  const replaced = new Set(
    extra.filter(({ table = 0 }) => mainTables.includes(table)).map(({ destination }) => destination.text),
  );
  return [...natural.filter(({ destination }) => !replaced.has(destination.text)), ...extra];
}

/** What is to be said of routes that pods of this node do not get, for they have no address of that family. */
export function routesInVain(
  families: readonly PodNetworkFamily[],
  routes: readonly Pick<ExtraRoute, 'dst'>[],
): string[] {
  return routes
    .map(({ dst }) => parsePrefix(dst))
    .filter(({ family }) => !families.some((own) => own.family === family))
    .map(
      ({ text, family }) =>
        `ipam.routes to ${text} has no effect: pods of this node have no ${family.kubeName} address`,
    );
}

/** @throws TwillError `invalid` where the kernel would take addresses away, or refuse the device */
function assertMtu(mtu: number, families: readonly PodNetworkFamily[]): void {
  const least = leastMtu([ipv4, ...families.map(({ family }) => family)], false);
  if (mtu >= least) return;
  throw new TwillError(
    'invalid',
    `network configuration: mtu is ${mtu}, which is not supported: the pod's addresses need at least ${least}`,
  );
}

/** @param names `hostVeth` and `hostMac` belong to the attachment and stay the same over its life */
export function planPod(
  network: PodNetwork,
  addresses: readonly Address[],
  names: { readonly ifname: string; readonly hostVeth: string; readonly hostMac: string },
  options: PodOptions,
): PodPlan {
  const first = addresses.find((address) => address.family === ipv4) ?? addresses[0];
  // One without an address gets the host end's MAC with another first byte.
  const ownMac = first === undefined ? `0a${names.hostMac.slice(2)}` : macOf(first);
  const planned = addresses.map((address): PlannedAddress => {
    const family = network.families.find(({ subnet }) => prefixContains(subnet, address));
    if (family === undefined)
      throw new TwillError('internal', `${address.text} is in none of this node's subnets`);
    return { address, subnet: family.subnet, gateway: family.gateway };
  });
  const families = network.families.filter(({ family }) =>
    planned.some(({ address }) => address.family === family),
  );
  const routes = planRoutes(families, options);
  const mtu = options.mtu ?? network.mtu;
  if (options.mtu !== undefined) assertMtu(options.mtu, families);
  const { hairpin, isolated, detectDuplicates, containerInterface: up, mac = ownMac } = options;
  const rest = { mtu, hairpin, detectDuplicates, up, addresses: planned, routes };
  return { ...names, mac, isolated: isolated ? true : undefined, ...rest };
}
