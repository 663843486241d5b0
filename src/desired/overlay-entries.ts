import { type Address, type Family, type Prefix, prefixContains, prefixesOverlap } from '../model/address.ts';
import { type Lease, leaseFamily } from '../model/lease.ts';
import type { Backend } from '../model/network-config.ts';

/**
 * Our mark on routes: the rtnetlink protocol number. Numbers above RTPROT_STATIC (4) are user space's; this one is
 * free in iproute2's rt_protos and in the kernel's list.
 */
export const ROUTE_PROTOCOL = 80;

/** A route to another node's subnet. */
export interface RouteEntry {
  readonly kind: 'route';
  readonly destination: Prefix;
  /** Undefined only for somebody else's route that stands where ours should. */
  readonly gateway: Address | undefined;
  /** Interface index. */
  readonly device: number;
  readonly onlink: boolean;
  readonly protocol: number;
}

/** A permanent neighbour entry on the VXLAN device: the other node's tunnel address to its VTEP MAC. */
export interface NeighbourEntry {
  readonly kind: 'neighbour';
  readonly address: Address;
  readonly mac: string;
  readonly device: number;
}

/** A VXLAN forwarding entry: frames to the MAC go to this underlay address. */
export interface FdbEntryPlan {
  readonly kind: 'fdb';
  readonly mac: string;
  readonly destination: Address;
  readonly device: number;
}

export type OverlayEntry = RouteEntry | NeighbourEntry | FdbEntryPlan;

/** Entries by what the kernel tells them apart by. */
export type EntryMap = Map<string, OverlayEntry>;

/** FDB entries are keyed by (MAC, destination): two nodes that share a MAC must not fight over one entry. */
export function entryKey(entry: OverlayEntry): string {
  if (entry.kind === 'route') return `r ${entry.destination.text}`;
  if (entry.kind === 'neighbour') return `n ${entry.address.text}`;
  return `f ${entry.mac} ${entry.destination.text}`;
}

export function sameEntry(a: OverlayEntry, b: OverlayEntry): boolean {
  if (a === b) return true;
  if (a.device !== b.device) return false;
  if (a.kind === 'route' && b.kind === 'route') {
    return a.gateway?.text === b.gateway?.text && a.onlink === b.onlink && a.protocol === b.protocol;
  }
  if (a.kind === 'neighbour' && b.kind === 'neighbour') return a.mac === b.mac;
  return true;
}

/** One family's tunnel or underlay as the peers' entries need it. */
export interface FamilyPath {
  readonly family: Family;
  /** Index of the VXLAN device; undefined for host-gw. */
  readonly vxlan: number | undefined;
  /** Index of the underlay device. */
  readonly underlay: number;
  /** Networks that are directly reachable on the underlay, for DirectRouting and host-gw. */
  readonly direct: readonly Prefix[];
}

/** Why a node's lease yields no entries, for a log line that names it. */
export interface SkippedLease {
  readonly lease: Lease;
  readonly reason: string;
}

function vxlanEntries(device: number, subnet: Prefix, publicIp: Address, mac: string): OverlayEntry[] {
  const tunnel = subnet.address;
  return [
    { kind: 'neighbour', address: tunnel, mac, device },
    { kind: 'fdb', mac, destination: publicIp, device },
    {
      kind: 'route',
      destination: subnet,
      gateway: tunnel,
      device,
      onlink: true,
      protocol: ROUTE_PROTOCOL,
    },
  ];
}

/**
 * The entries for one peer in one family.
 * @returns the entries, or the reason why there are none
 */
export function peerEntries(lease: Lease, path: FamilyPath, backend: Backend): OverlayEntry[] | string {
  const peer = leaseFamily(lease, path.family);
  if (peer === undefined) return [];
  if (backend.type === 'alloc') return [];
  if (lease.backend !== backend.type) return `its backend is ${lease.backend}, ours is ${backend.type}`;
  const { subnet, publicIp } = peer;
  const direct = path.direct.some((network) => prefixContains(network, publicIp));
  if (backend.type === 'host-gw' || (backend.directRouting && direct)) {
    if (!direct) return `${publicIp.text} is not directly reachable, which host-gw needs`;
    const device = path.underlay;
    return [
      {
        kind: 'route',
        destination: subnet,
        gateway: publicIp,
        device,
        onlink: false,
        protocol: ROUTE_PROTOCOL,
      },
    ];
  }
  if (path.vxlan === undefined || peer.vtepMac === undefined) return 'it has no VTEP MAC';
  return vxlanEntries(path.vxlan, subnet, publicIp, peer.vtepMac);
}

/** A peer's entries must never shadow our own subnet or send our own traffic back to ourselves. */
function clash(lease: Lease, own: Lease, family: Family): string | undefined {
  const peer = leaseFamily(lease, family);
  const ours = leaseFamily(own, family);
  if (peer === undefined || ours === undefined) return undefined;
  if (prefixesOverlap(peer.subnet, ours.subnet))
    return `its subnet ${peer.subnet.text} overlaps ours, ${ours.subnet.text}`;
  if (peer.publicIp.value === ours.publicIp.value)
    return `it claims our public IP ${ours.publicIp.text}: give the nodes different public IPs`;
  return undefined;
}

/**
 * Everything the kernel should hold for these peers. Where two leases want the same entry, the first by name has it, so
 * that the result does not depend on the order in which leases became known.
 */
export function desiredEntries(options: {
  readonly leases: Iterable<Lease>;
  readonly own: Lease;
  readonly paths: readonly FamilyPath[];
  readonly backend: Backend;
}): { entries: EntryMap; skipped: SkippedLease[] } {
  const { leases, own, paths, backend } = options;
  const entries: EntryMap = new Map();
  const owners = new Map<string, Lease>();
  const skipped: SkippedLease[] = [];
  for (const lease of leases) {
    if (lease.name === own.name) continue;
    for (const path of paths) {
      const found = clash(lease, own, path.family) ?? peerEntries(lease, path, backend);
      if (typeof found === 'string') {
        skipped.push({ lease, reason: found });
        continue;
      }
      for (const entry of found) {
        const key = entryKey(entry);
        const owner = owners.get(key);
        if (owner !== undefined && owner.name < lease.name) continue;
        owners.set(key, lease);
        entries.set(key, entry);
      }
    }
  }
  return { entries, skipped };
}

const RTPROT_KERNEL = 2;
/** Routes without an explicit metric, as ours are: the kernel shows 0 for IPv4 and 1024 for IPv6. */
const naturalMetrics = { ipv4: 0, ipv6: 1024 } as const;
const NUD_PERMANENT = 0x80;

/** What the kernel listed; device numbers are interface indexes. */
export interface KernelListing {
  readonly routes: readonly {
    readonly destination: Prefix;
    readonly gateway: Address | undefined;
    readonly device: number;
    readonly onlink: boolean;
    readonly protocol: number;
    readonly metric: number;
  }[];
  readonly neighbours: readonly {
    readonly device: number;
    readonly address: Address;
    readonly mac: string | undefined;
    readonly state: number;
  }[];
  readonly fdb: readonly {
    readonly device: number;
    readonly mac: string;
    readonly destination: Address | undefined;
    readonly state: number;
  }[];
}

/** Says which of the kernel's objects are ours to change. */
export interface Ownership {
  /** Indexes of our VXLAN devices. */
  readonly devices: ReadonlySet<number>;
  /** The pod networks. */
  readonly networks: readonly Prefix[];
}

/**
 * Ours are: routes that carry our mark; routes into the pod network through our VXLAN device, whoever made them (a
 * flanneld that ran here before); permanent neighbour and forwarding entries of that device.
 */
export function ownsRoute(route: KernelListing['routes'][number], ownership: Ownership): boolean {
  if (route.protocol === ROUTE_PROTOCOL) return true;
  return (
    route.protocol !== RTPROT_KERNEL &&
    ownership.devices.has(route.device) &&
    ownership.networks.some(
      (network) =>
        network.length <= route.destination.length && prefixContains(network, route.destination.address),
    )
  );
}

export function routeEntry(route: KernelListing['routes'][number]): RouteEntry | undefined {
  const { destination, gateway, device, onlink, protocol, metric } = route;
  if (metric !== naturalMetrics[destination.family.name]) return undefined;
  return { kind: 'route', destination, gateway, device, onlink, protocol };
}

export function neighbourEntry(entry: KernelListing['neighbours'][number]): NeighbourEntry | undefined {
  const { device, address, mac, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || mac === undefined) return undefined;
  return { kind: 'neighbour', address, mac, device };
}

export function fdbEntry(entry: KernelListing['fdb'][number]): FdbEntryPlan | undefined {
  const { device, mac, destination, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || destination === undefined) return undefined;
  return { kind: 'fdb', mac, destination, device };
}

/** The kernel's entries that are ours, or stand where ours should. */
export function actualEntries(listing: KernelListing, ownership: Ownership, desired: EntryMap): EntryMap {
  const actual: EntryMap = new Map();
  const add = (entry: OverlayEntry): Map<string, OverlayEntry> => actual.set(entryKey(entry), entry);
  for (const route of listing.routes) {
    const entry = routeEntry(route);
    if (entry !== undefined && (ownsRoute(route, ownership) || desired.has(entryKey(entry)))) add(entry);
  }
  for (const neighbour of listing.neighbours) {
    const entry = neighbourEntry(neighbour);
    if (entry !== undefined) add(entry);
  }
  for (const forwarding of listing.fdb) {
    const entry = fdbEntry(forwarding);
    if (entry !== undefined) add(entry);
  }
  return actual;
}
