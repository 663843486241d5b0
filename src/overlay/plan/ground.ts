import { LeaseHolders, type Refusals } from '../../leases/plan/holders.ts';
import type { Lease } from '../../leases/plan/lease.ts';
import type { Backend, NetworkConfig } from '../../leases/plan/network-config.ts';
import {
  type Address,
  makePrefix,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address.ts';
import type { Check } from '../../model/health.ts';

/** Addresses that are in use already, and by what. */
export interface Taken {
  readonly prefix: Prefix;
  readonly what: string;
}

/** What this node knows besides the leases, and no peer's lease may take from it. */
export interface Ground {
  /** The pod networks: the one in force, and those of before as long as leases of theirs are left. */
  readonly networks: readonly Prefix[];
  /** Parts of the pod networks that are not for pods. */
  readonly taken: readonly Taken[];
  /** This node's own addresses. */
  readonly addresses: ReadonlySet<string>;
}

/** What the kernel says of this node, and whom it must go on reaching. */
export interface GroundInput {
  readonly links: readonly { readonly index: number; readonly name: string }[];
  readonly addresses: readonly {
    readonly index: number;
    readonly address: Address;
    readonly length: number;
  }[];
  readonly gateways: readonly Address[];
  /** Where the leases come from: etcd, or the Kubernetes API. */
  readonly servers: readonly Address[];
}

const whole = (address: Address): Prefix => makePrefix(address, address.family.bits);

/**
 * What of the addresses is this node's own, or between it and others: addresses, connected networks, gateways, and the
 * servers of the leases.
 * @param pods true for devices that carry pods' addresses: our VXLAN devices, and the bridge
 */
export function takenAddresses(input: GroundInput, pods: (name: string) => boolean): Taken[] {
  const { links, addresses, gateways, servers } = input;
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const own = addresses.flatMap(({ index, address, length }): Taken[] => {
    const device = names.get(index) ?? `device ${index}`;
    if (pods(device)) return [];
    // An address without a network (/32) is one of the node's own all the same.
    return [{ prefix: makePrefix(address, length), what: `the network of this node's ${device}` }];
  });
  return [
    ...own,
    ...gateways.map((address) => ({ prefix: whole(address), what: 'a gateway of this node' })),
    ...servers.map((address) => ({ prefix: whole(address), what: 'a server that the leases come from' })),
  ];
}

/** @param networks the pod networks */
export function makeGround(
  networks: readonly Prefix[],
  input: GroundInput,
  pods: (name: string) => boolean,
): Ground {
  const taken = takenAddresses(input, pods).filter(({ prefix }) =>
    networks.some((network) => prefixesOverlap(network, prefix)),
  );
  return { networks, taken, addresses: new Set(input.addresses.map(({ address }) => address.text)) };
}

/**
 * Says whether a lease may have its public IP. Outside the pod network it is nobody's business; in it are pods, whose
 * bridge would make the underlay smaller and smaller, unless the nodes' own network lies there, too. Then it must be in
 * no node's subnet, which only a judgement of all leases tells.
 * @param own this node's addresses between the nodes
 */
export function plausibleNodes(
  leases: ReadonlyMap<string, Lease>,
  { families }: NetworkConfig,
  own: Iterable<Address>,
): (lease: Lease, publicIp: Address) => boolean {
  const networks = families.map(({ network }) => network);
  const inPodNetwork = (address: Address): boolean =>
    networks.some((network) => prefixContains(network, address));
  const nested = [...own].some(inPodNetwork);
  let refusals: Refusals | undefined;
  return (lease, publicIp) => {
    if (!inPodNetwork(publicIp)) return true;
    if (!nested) return false;
    refusals ??= new LeaseHolders(networks).judge(leases.values());
    return refusals.get(lease.name)?.has(publicIp.family.name) !== true;
  };
}

/** Which of the addresses in use a route to the prefix would take away. */
export function takenFrom(taken: readonly Taken[], prefix: Prefix): Taken | undefined {
  return taken.find((one) => prefixesOverlap(one.prefix, prefix));
}

/** Networks of before that leases are left in. */
export function networksLeft(former: readonly Prefix[], subnets: Iterable<Prefix>): Prefix[] {
  if (former.length === 0) return [];
  const all = [...subnets];
  return former.filter((network) => all.some(({ address }) => prefixContains(network, address)));
}

/** A route as {@link wrongRoutes} looks at it. */
interface SeenRoute {
  readonly destination: Prefix;
  readonly device: number;
}

/** Those of our routes that take addresses away that are in use: no lease is needed to know that they are wrong. */
export function wrongRoutes<T extends SeenRoute>(
  routes: readonly T[],
  taken: readonly Taken[],
): { route: T; taken: Taken }[] {
  return routes.flatMap((route) => {
    const found = takenFrom(taken, route.destination);
    return found === undefined ? [] : [{ route, taken: found }];
  });
}

/**
 * With host-gw the other nodes send to the public IP itself: one that is no address of this node (a NAT's, or mistyped)
 * leads nowhere. flanneld does not start then.
 */
export function publicIpProblems(
  own: Lease,
  backend: Backend,
  underlay: { readonly name: string; readonly addresses: ReadonlyMap<string, Address> },
  ground: Ground,
): Check[] {
  if (backend.type !== 'host-gw') return [];
  return own.families.flatMap(({ family, publicIp }): Check[] => {
    if (ground.addresses.has(publicIp.text)) return [];
    const better = underlay.addresses.get(family.name)?.text;
    const detail = `${publicIp.text} is no address of this node, and with the backend host-gw other nodes send to it directly: they do not reach the pods of this node; set --public-ip (or the annotation that gives it) to an address of ${underlay.name}${better === undefined ? '' : `, ${better}`}, or use the backend vxlan`;
    return [{ name: 'public IP', state: 'warning', detail }];
  });
}

/** Name of the checks of {@link bridgeProblems}. */
export const BRIDGE = 'bridge';

/** Something else has the name of the pods' bridge: a network that does not name another one can have no pod here. */
export function bridgeProblems(
  links: readonly { readonly name: string; readonly kind: string | undefined }[],
  bridge: string,
): Check[] {
  const other = links.find(({ name, kind }) => name === bridge && kind !== 'bridge');
  if (other === undefined) return [];
  const detail = `device ${bridge} is no bridge but of kind ${other.kind ?? 'physical'}, and pods are put on it: remove it, or choose another --bridge`;
  return [{ name: BRIDGE, state: 'warning', detail }];
}
