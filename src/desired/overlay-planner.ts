import { type Family, type Prefix, prefixContains, prefixesOverlap } from '../model/address.ts';
import { type Lease, type LeaseFamily, leaseFamily } from '../model/lease.ts';
import type { Backend } from '../model/network-config.ts';
import { type EntryMap, entryKey, nexthopId, type OverlayEntry, ROUTE_PROTOCOL } from './overlay-entries.ts';

/** One family's tunnel or underlay as the peers' entries need it. */
export interface FamilyPath {
  readonly family: Family;
  /** Index of the VXLAN device; undefined for host-gw. */
  readonly vxlan: number | undefined;
  /** The kernel has nexthop objects for this family's routes. */
  readonly nexthops: boolean;
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

function vxlanEntries(
  path: FamilyPath,
  device: number,
  { subnet, publicIp }: LeaseFamily,
  mac: string,
): OverlayEntry[] {
  const tunnel = subnet.address;
  const nexthop = path.nexthops ? nexthopId(tunnel) : undefined;
  const hops: OverlayEntry[] =
    nexthop === undefined ? [] : [{ kind: 'nexthop', id: nexthop, gateway: tunnel, device }];
  return [
    { kind: 'neighbour', address: tunnel, mac, device },
    { kind: 'fdb', mac, destination: publicIp, device },
    ...hops,
    {
      kind: 'route',
      destination: subnet,
      gateway: tunnel,
      device,
      onlink: true,
      protocol: ROUTE_PROTOCOL,
      nexthop,
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

/** What one lease amounts to: its entries with their keys, and why there are none in a family. */
interface LeasePlan {
  readonly entries: readonly (readonly [string, OverlayEntry])[];
  readonly skipped: readonly SkippedLease[];
}

/** What every peer's entries follow from, besides its lease. */
export interface PeerContext {
  readonly own: Lease;
  readonly paths: readonly FamilyPath[];
  readonly backend: Backend;
}

function planLease(lease: Lease, { own, paths, backend }: PeerContext): LeasePlan {
  const entries: (readonly [string, OverlayEntry])[] = [];
  const skipped: SkippedLease[] = [];
  for (const path of paths) {
    const found = clash(lease, own, path.family) ?? peerEntries(lease, path, backend);
    if (typeof found === 'string') skipped.push({ lease, reason: found });
    else for (const entry of found) entries.push([entryKey(entry), entry]);
  }
  return { entries, skipped };
}

/** What changed of a result. */
export interface EntryUpdate {
  readonly before: EntryMap;
  readonly after: EntryMap;
  readonly skipped: SkippedLease[];
}

/**
 * Works out what the kernel should hold for the peers. What it made of a lease it keeps as long as the lease lives: of
 * thousands of leases usually one has changed.
 */
export class PeerPlanner {
  readonly context: PeerContext;
  private readonly plans = new Map<string, { readonly lease: Lease; readonly plan: LeasePlan }>();
  /** The leases that the last result was worked out from. */
  private readonly planned = new Map<string, Lease>();
  private entries: EntryMap = new Map();
  /** How many forwarding entries each MAC has. */
  private readonly macs = new Map<string, number>();
  private clashing = false;

  constructor(context: PeerContext) {
    this.context = context;
  }

  private plan(lease: Lease): LeasePlan {
    const known = this.plans.get(lease.name);
    if (known?.lease === lease) return known.plan;
    const plan = planLease(lease, this.context);
    this.plans.set(lease.name, { lease, plan });
    return plan;
  }

  /**
   * Everything the kernel should hold. Where two leases want the same entry, the first by name has it, so that the
   * result does not depend on the order in which leases became known.
   */
  desired(leases: Iterable<Lease>): { entries: EntryMap; skipped: SkippedLease[] } {
    const entries: EntryMap = new Map();
    const clashes = new Map<string, Lease>();
    const skipped: SkippedLease[] = [];
    const { own } = this.context;
    const others: Lease[] = [];
    for (const lease of leases) if (lease.name !== own.name) others.push(lease);
    this.planned.clear();
    this.macs.clear();
    for (const lease of others) {
      this.planned.set(lease.name, lease);
      const plan = this.plan(lease);
      for (const [key, entry] of plan.entries) {
        const before = entries.size;
        entries.set(key, entry);
        if (entries.size === before) clashes.set(key, lease);
        else this.count(entry, 1);
      }
      if (plan.skipped.length > 0) skipped.push(...plan.skipped);
    }
    if (this.plans.size > others.length)
      for (const name of this.plans.keys()) if (!this.planned.has(name)) this.plans.delete(name);
    if (clashes.size > 0) this.settle(others, clashes, entries);
    this.clashing = clashes.size > 0;
    this.entries = entries;
    return { entries, skipped };
  }

  private count(entry: OverlayEntry, by: number): void {
    if (entry.kind === 'fdb') this.macs.set(entry.mac, (this.macs.get(entry.mac) ?? 0) + by);
  }

  /**
   * Brings the last result of {@link desired} up to date, in place, at the cost of what changed.
   * @returns the entries of the changed leases before and after; undefined where leases clash, or share a MAC: then only
   *   a whole new result is right
   */
  update(leases: ReadonlyMap<string, Lease>): EntryUpdate | undefined {
    if (this.clashing) return undefined;
    const changed = this.changedLeases(leases);
    const update: EntryUpdate = { before: new Map(), after: new Map(), skipped: [] };
    for (const [old, current] of changed) {
      for (const [key, entry] of old === undefined ? [] : this.plan(old).entries)
        update.before.set(key, entry);
      if (current === undefined) continue;
      const plan = this.plan(current);
      update.skipped.push(...plan.skipped);
      for (const [key, entry] of plan.entries) {
        if (update.after.has(key)) return undefined;
        update.after.set(key, entry);
      }
    }
    for (const key of update.after.keys())
      if (this.entries.has(key) && !update.before.has(key)) return undefined;
    if (this.sharesMac(update)) return undefined;
    this.commit(update, changed);
    return update;
  }

  private changedLeases(leases: ReadonlyMap<string, Lease>): [Lease | undefined, Lease | undefined][] {
    const changed: [Lease | undefined, Lease | undefined][] = [];
    let known = 0;
    for (const [name, lease] of leases) {
      if (name === this.context.own.name) continue;
      const old = this.planned.get(name);
      if (old !== undefined) known++;
      if (old !== lease) changed.push([old, lease]);
    }
    if (known < this.planned.size)
      for (const [name, old] of this.planned) if (!leases.has(name)) changed.push([old, undefined]);
    return changed;
  }

  private sharesMac({ before, after }: EntryUpdate): boolean {
    const counts = new Map<string, number>();
    const add = (entry: OverlayEntry, by: number): void => {
      if (entry.kind === 'fdb')
        counts.set(entry.mac, (counts.get(entry.mac) ?? this.macs.get(entry.mac) ?? 0) + by);
    };
    for (const entry of before.values()) {
      if (entry.kind === 'fdb' && (this.macs.get(entry.mac) ?? 0) > 1) return true;
      add(entry, -1);
    }
    for (const entry of after.values()) add(entry, 1);
    for (const count of counts.values()) if (count > 1) return true;
    return false;
  }

  private commit({ before, after }: EntryUpdate, changed: readonly [Lease | undefined, Lease | undefined][]) {
    for (const [key, entry] of before) {
      this.entries.delete(key);
      this.count(entry, -1);
    }
    for (const [key, entry] of after) {
      this.entries.set(key, entry);
      this.count(entry, 1);
    }
    for (const [old, current] of changed) {
      if (current !== undefined) this.planned.set(current.name, current);
      else if (old !== undefined) {
        this.planned.delete(old.name);
        this.plans.delete(old.name);
      }
    }
  }

  private settle(leases: readonly Lease[], clashes: ReadonlyMap<string, Lease>, entries: EntryMap): void {
    const owners = new Map<string, Lease>();
    for (const lease of leases) {
      for (const [key, entry] of this.plan(lease).entries) {
        const owner = owners.get(key);
        if (!clashes.has(key) || (owner !== undefined && owner.name < lease.name)) continue;
        owners.set(key, lease);
        entries.set(key, entry);
      }
    }
  }
}
