import type { Lease } from '../../leases/plan/lease.ts';
import { isBroken } from '../../mesh/plan/conclusion.ts';
import { sentenceOf } from '../../mesh/plan/sentences.ts';
import type { MeshPartner } from '../../mesh/plan/state.ts';
import { type Address, type Prefix, prefixHost } from '../../model/address.ts';
import {
  type Entries,
  type EntryMap,
  fdbKey,
  neighbourKey,
  nexthopId,
  nexthopKey,
  type OverlayEntry,
  routeKey,
} from '../../overlay/plan/entries.ts';
import { type DeviceNames, describeEntry, type EntryState, entryState } from './entries.ts';

/** How one of a node's entries does; `none`: there should be none. */
export type PartState = EntryState | 'foreign' | 'none';

/** A line for another node, in one family. */
export interface PeerRow {
  readonly lease: string;
  readonly subnet: string;
  readonly nextHop: string | undefined;
  readonly vtepMac: string | undefined;
  /** The node's public IP. */
  readonly underlay: string;
  readonly device: string | undefined;
  readonly route: PartState;
  readonly nexthop: PartState;
  readonly neighbour: PartState;
  readonly fdb: PartState;
  /** How the kernel says that it would reach the node's first pod. */
  readonly way: string;
  readonly wayIsRight: boolean;
  /** How it would reach the node itself. */
  readonly underlayWay: string;
  /** What the agent has measured of it; undefined where it has not. */
  readonly mesh: MeshPartner | undefined;
  /** What is wrong, in words; empty where all is well. */
  readonly troubles: readonly string[];
}

export interface PeerInput {
  readonly lease: Lease;
  readonly subnet: Prefix;
  readonly publicIp: Address;
  readonly vtepMac: string | undefined;
}

/** What the kernel has said of a node. */
export interface PeerWays {
  readonly way: string;
  readonly wayIsRight: boolean;
  readonly underlayWay: string;
  readonly underlayReached: boolean;
}

const partNames = {
  route: 'route',
  nexthop: 'nexthop',
  neighbour: 'neighbour entry',
  fdb: 'forwarding entry',
};

/** The first pod's address of a subnet: the VTEP has the first of all, the bridge the next. */
export const firstPod = (subnet: Prefix): Address => prefixHost(subnet, 2);

/** @param told what the agent says of it: why the lease has no entries, and what it has measured */
export function peerRow(
  { lease, subnet, publicIp, vtepMac }: PeerInput,
  view: { readonly desired: EntryMap; readonly actual: Entries; readonly names: DeviceNames },
  ways: PeerWays,
  told: { readonly skipped: string | undefined; readonly mesh: MeshPartner | undefined },
): PeerRow {
  const { skipped, mesh } = told;
  const { desired, actual, names } = view;
  const wanted = {
    route: desired.get(routeKey(subnet)),
    nexthop: subnet.family.name === 'ipv4' ? desired.get(nexthopKey(nexthopId(subnet.address))) : undefined,
    neighbour: desired.get(neighbourKey(subnet.address)),
    fdb: vtepMac === undefined ? undefined : desired.get(fdbKey(vtepMac, subnet.family)),
  };
  const troubles: string[] = skipped === undefined ? [] : [`skipped: ${skipped}`];
  const part = (name: keyof typeof wanted): PartState => {
    const entry = wanted[name];
    // Of two leases with one MAC the entry is the other one's.
    if (entry === undefined || skipped !== undefined) return 'none';
    const state = entryState(entry, actual);
    const present = actual.get(entry.key);
    if (state === 'missing') troubles.push(`its ${partNames[name]} is missing`);
    if (state === 'wrong' && present !== undefined)
      troubles.push(`its ${partNames[name]} is ${describeEntry(present, names)}`);
    return state;
  };
  const states = {
    route: part('route'),
    nexthop: part('nexthop'),
    neighbour: part('neighbour'),
    fdb: part('fdb'),
  };
  const route = wanted.route?.kind === 'route' && skipped === undefined ? wanted.route : undefined;
  if (route !== undefined && !ways.wayIsRight && states.route === 'ok')
    troubles.push(`the kernel sends to its pods another way: ${ways.way}`);
  if (route !== undefined && !ways.underlayReached)
    troubles.push(`the node itself is not reached: ${publicIp.text} ${ways.underlayWay}`);
  if (mesh !== undefined && isBroken(mesh.conclusion)) troubles.push(sentenceOf(mesh) ?? '');
  return {
    lease: lease.name,
    subnet: subnet.text,
    nextHop: route?.gateway?.text,
    vtepMac,
    underlay: publicIp.text,
    device: route === undefined ? undefined : names.get(route.device),
    ...states,
    way: ways.way,
    wayIsRight: ways.wayIsRight,
    underlayWay: ways.underlayWay,
    mesh,
    troubles,
  };
}

/** What stands and belongs to no node. */
export interface ForeignEntry {
  readonly kind: OverlayEntry['kind'];
  readonly entry: string;
}

/** The name of an entry, with what it says. */
export function foreignEntries(
  {
    desired,
    actual,
    names,
  }: { readonly desired: EntryMap; readonly actual: Entries; readonly names: DeviceNames },
  nameOf: (entry: OverlayEntry) => string,
): ForeignEntry[] {
  const foreign: ForeignEntry[] = [];
  for (const [key, entry] of actual)
    if (!desired.has(key))
      foreign.push({ kind: entry.kind, entry: `${nameOf(entry)} ${describeEntry(entry, names)}` });
  return foreign;
}
