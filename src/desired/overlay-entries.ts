import type { Address, Prefix } from '../model/address.ts';

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
