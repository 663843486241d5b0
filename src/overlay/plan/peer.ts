import { type Lease, type LeaseFamily, leaseFamily } from '../../leases/plan/lease.ts';
import type { Backend } from '../../leases/plan/network-config.ts';
import {
  type Address,
  type Family,
  ipv4,
  type Prefix,
  prefixesOverlap,
  prefixSize,
} from '../../model/address.ts';
import {
  fdbKey,
  neighbourKey,
  nexthopId,
  nexthopKey,
  type OverlayEntry,
  ROUTE_PROTOCOL,
  routeKey,
} from './entries.ts';
import { type Ground, takenFrom } from './ground.ts';

/** One family's tunnel or underlay as the peers' entries need it. */
export interface FamilyPath {
  readonly family: Family;
  /** Index of the VXLAN device; undefined for host-gw, and while the device does not stand. */
  readonly vxlan: number | undefined;
  /** The kernel has nexthop objects for this family's routes. */
  readonly nexthops: boolean;
  /** Index of the underlay device. */
  readonly underlay: number;
  /** Networks that this node's addresses on the underlay are in. */
  readonly networks: readonly Prefix[];
  /** Index of the device on whose link a node's public IP is, for DirectRouting and host-gw; undefined behind a router. */
  readonly onLink: (publicIp: Address) => number | undefined;
  /** Changes with the answers of `onLink`. */
  readonly reach: number;
}

/** Why a node's lease yields no entries, for a log line that names it. */
export interface SkippedLease {
  /** The lease's name. */
  readonly name: string;
  readonly reason: string;
}

function vxlanEntries(
  path: FamilyPath,
  device: number,
  { subnet, publicIp }: LeaseFamily,
  mac: string,
): OverlayEntry[] {
  const tunnel = subnet.address;
  const entries: OverlayEntry[] = [
    { kind: 'neighbour', key: neighbourKey(tunnel), address: tunnel, mac, device },
    { kind: 'fdb', key: fdbKey(mac, publicIp.family), mac, destination: publicIp, device },
  ];
  const nexthop = path.nexthops ? nexthopId(tunnel) : undefined;
  if (nexthop !== undefined)
    entries.push({ kind: 'nexthop', key: nexthopKey(nexthop), id: nexthop, gateway: tunnel, device });
  entries.push({
    kind: 'route',
    key: routeKey(subnet),
    destination: subnet,
    gateway: tunnel,
    device,
    onlink: true,
    protocol: ROUTE_PROTOCOL,
    nexthop,
  });
  return entries;
}

/** The first and the last address of a network are no host's; a /31 and a /32 have none that is not. */
function isNoHost(network: Prefix, { family, value }: Address): boolean {
  if (family !== ipv4 || network.length > 30) return false;
  return value === network.address.value || value === network.address.value + prefixSize(network) - 1n;
}

/**
 * The entries for one peer in one family.
 * @returns the entries, or the reason why there are none
 */
function peerEntries(lease: Lease, path: FamilyPath, backend: Backend): OverlayEntry[] | string {
  const peer = leaseFamily(lease, path.family);
  if (peer === undefined) return [];
  if (backend.type === 'alloc') return [];
  if (lease.backend !== backend.type) return `its backend is ${lease.backend}, ours is ${backend.type}`;
  const { subnet, publicIp } = peer;
  if (path.networks.some((network) => isNoHost(network, publicIp)))
    return `its public IP ${publicIp.text} is that of a network, or its broadcast address`;
  const device = backend.type === 'host-gw' || backend.directRouting ? path.onLink(publicIp) : undefined;
  if (backend.type === 'host-gw' || device !== undefined) {
    if (device === undefined) return `${publicIp.text} is not directly reachable, which host-gw needs`;
    return [
      {
        kind: 'route',
        key: routeKey(subnet),
        destination: subnet,
        gateway: publicIp,
        device,
        onlink: false,
        protocol: ROUTE_PROTOCOL,
        nexthop: undefined,
      },
    ];
  }
  if (peer.vtepMac === undefined) return 'it has no VTEP MAC';
  // What is wrong with the device is said once, and of none of the nodes beyond it.
  if (path.vxlan === undefined) return [];
  return vxlanEntries(path, path.vxlan, peer, peer.vtepMac);
}

/** A peer's entries must never take addresses away that are in use, nor send our own traffic back to ourselves. */
function clash(lease: Lease, family: Family, { own, ground }: PeerContext): string | undefined {
  const peer = leaseFamily(lease, family);
  const ours = leaseFamily(own, family);
  if (peer === undefined) return undefined;
  const { subnet, publicIp, vtepMac } = peer;
  if (ours !== undefined && prefixesOverlap(subnet, ours.subnet))
    return `its subnet ${subnet.text} overlaps ours, ${ours.subnet.text}`;
  const found = takenFrom(ground.taken, subnet);
  if (found !== undefined) return `its subnet ${subnet.text} overlaps ${found.prefix.text}, ${found.what}`;
  if (publicIp.value === ours?.publicIp.value)
    return `it claims our public IP ${publicIp.text}: give the nodes different public IPs`;
  if (ground.addresses.has(publicIp.text)) return `its public IP ${publicIp.text} is an address of this node`;
  if (vtepMac !== undefined && vtepMac === ours?.vtepMac) return `its VTEP MAC ${vtepMac} is this node's own`;
  return undefined;
}

/** What one lease amounts to: its entries, and why there are none in a family. */
export interface LeasePlan {
  readonly lease: Lease;
  readonly entries: readonly OverlayEntry[];
  readonly skipped: readonly SkippedLease[];
  /** Why it does not hold what it claims, by family. */
  readonly refused: ReadonlyMap<Family['name'], string> | undefined;
}

const nothing: readonly never[] = [];

/** What every peer's entries follow from, besides its lease. */
export interface PeerContext {
  readonly own: Lease;
  readonly paths: readonly FamilyPath[];
  readonly backend: Backend;
  readonly ground: Ground;
}

/** Works out what one lease amounts to. Our own yields no entries, and can be refused as any other. */
export function planLease(lease: Lease, context: PeerContext, refused: LeasePlan['refused']): LeasePlan {
  let entries: readonly OverlayEntry[] = nothing;
  let skipped: readonly SkippedLease[] = nothing;
  const ours = lease.name === context.own.name;
  for (const path of context.paths) {
    const { family } = path;
    const reason = refused?.get(family.name);
    const found =
      reason ??
      (ours ? nothing : (clash(lease, family, context) ?? peerEntries(lease, path, context.backend)));
    if (typeof found !== 'string') entries = entries.length === 0 ? found : [...entries, ...found];
    else
      skipped = [
        ...skipped,
        { name: lease.name, reason: ours ? `the other nodes refuse our own lease: ${found}` : found },
      ];
  }
  return { lease, entries, skipped, refused };
}
