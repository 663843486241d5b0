import { type Lease, type LeaseFamily, leaseFamily } from '../../leases/plan/lease.ts';
import type { Backend } from '../../leases/plan/network-config.ts';
import {
  type Address,
  type Family,
  type Prefix,
  prefixContains,
  prefixesOverlap,
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

/** One family's tunnel or underlay as the peers' entries need it. */
export interface FamilyPath {
  readonly family: Family;
  /** Index of the VXLAN device; undefined for host-gw. */
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
  readonly lease: Lease;
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
    { kind: 'fdb', key: fdbKey(mac, publicIp), mac, destination: publicIp, device },
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

/** True when a route to `outer` would take the place of that to `inner`, or attract what is for all of it. */
function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
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
  const covered = path.networks.find((network) => covers(subnet, network));
  if (covered !== undefined)
    return `its subnet ${subnet.text} covers ${covered.text}, a network of this node's own`;
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
  if (path.vxlan === undefined || peer.vtepMac === undefined) return 'it has no VTEP MAC';
  return vxlanEntries(path, path.vxlan, peer, peer.vtepMac);
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

/** What one lease amounts to: its entries, and why there are none in a family. */
export interface LeasePlan {
  readonly lease: Lease;
  readonly entries: readonly OverlayEntry[];
  readonly skipped: readonly SkippedLease[];
}

const nothing: readonly never[] = [];

/** What every peer's entries follow from, besides its lease. */
export interface PeerContext {
  readonly own: Lease;
  readonly paths: readonly FamilyPath[];
  readonly backend: Backend;
}

/** Works out what one lease amounts to. */
export function planLease(lease: Lease, { own, paths, backend }: PeerContext): LeasePlan {
  let entries: readonly OverlayEntry[] = nothing;
  let skipped: readonly SkippedLease[] = nothing;
  for (const path of paths) {
    const found = clash(lease, own, path.family) ?? peerEntries(lease, path, backend);
    if (typeof found === 'string') skipped = [...skipped, { lease, reason: found }];
    else entries = entries.length === 0 ? found : [...entries, ...found];
  }
  return { lease, entries, skipped };
}
