import type { Address, Family, Prefix } from '../../model/address.ts';

/**
 * Our mark on routes: the rtnetlink protocol number. Numbers above RTPROT_STATIC (4) are user space's; this one is
 * free in iproute2's rt_protos and in the kernel's list.
 */
export const ROUTE_PROTOCOL = 80;

/** A route to another node's subnet. */
export interface RouteEntry {
  readonly kind: 'route';
  /** {@link routeKey} */
  readonly key: string;
  readonly destination: Prefix;
  /** Undefined only for somebody else's route that stands where ours should. */
  readonly gateway: Address | undefined;
  /** Interface index. */
  readonly device: number;
  readonly onlink: boolean;
  readonly protocol: number;
  /** The nexthop object that says gateway, device and onlink; undefined when the route says them itself. */
  readonly nexthop: number | undefined;
}

/**
 * A nexthop object (ip-nexthop(8)): the other node's tunnel address on the VXLAN device. IPv4 routes that each name a
 * gateway of their own on one device cost the kernel a comparison with every other one; routes by nexthop do not.
 */
export interface NexthopEntry {
  readonly kind: 'nexthop';
  /** {@link nexthopKey} */
  readonly key: string;
  readonly id: number;
  readonly gateway: Address;
  /** Interface index. */
  readonly device: number;
}

/** The gateway's number: nodes' subnets differ, and numbers that others let the kernel choose begin at 1. */
export function nexthopId(gateway: Address): number {
  return Number(gateway.value);
}

/** A permanent neighbour entry on the VXLAN device: the other node's tunnel address to its VTEP MAC. */
export interface NeighbourEntry {
  readonly kind: 'neighbour';
  /** {@link neighbourKey} */
  readonly key: string;
  readonly address: Address;
  readonly mac: string;
  readonly device: number;
}

/** A VXLAN forwarding entry: frames to the MAC go to this underlay address. */
export interface FdbEntryPlan {
  readonly kind: 'fdb';
  /** {@link fdbKey} */
  readonly key: string;
  readonly mac: string;
  readonly destination: Address;
  readonly device: number;
}

export type OverlayEntry = RouteEntry | NexthopEntry | NeighbourEntry | FdbEntryPlan;

/** Entries by their key: what the kernel tells them apart by. */
export type EntryMap = Map<string, OverlayEntry>;

/** What can be compared with what should stand. */
export type Entries = Pick<EntryMap, 'get' | typeof Symbol.iterator>;

/** Lists of which each has keys of its own, as one: copies of thousands of entries are the peak of a process's memory. */
export class JoinedEntries implements Entries {
  private readonly lists: readonly EntryMap[];

  constructor(lists: readonly EntryMap[]) {
    this.lists = lists;
  }

  get(key: string): OverlayEntry | undefined {
    for (const list of this.lists) {
      const found = list.get(key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  *[Symbol.iterator](): MapIterator<[string, OverlayEntry]> {
    for (const list of this.lists) yield* list;
  }
}

export const routeKey = (destination: Prefix): string => `r ${destination.text}`;
export const nexthopKey = (id: number): string => `h ${id}`;
export const neighbourKey = (address: Address): string => `n ${address.text}`;
/**
 * A unicast MAC has one destination on a device; of leases that share one, the first has it. Each family has its device.
 */
export const fdbKey = (mac: string, { name }: Family): string => `f ${mac} ${name}`;

/** The addresses that the entries send to: those of the nodes that have some. */
export function endpointsOf(entries: EntryMap): Address[] {
  const found: Address[] = [];
  for (const entry of entries.values()) {
    if (entry.kind === 'fdb') found.push(entry.destination);
    // With DirectRouting only one side may think that the other is near.
    else if (entry.kind === 'route' && !entry.onlink && entry.gateway !== undefined)
      found.push(entry.gateway);
  }
  return found;
}

export function sameEntry(a: OverlayEntry, b: OverlayEntry): boolean {
  if (a === b) return true;
  if (a.kind === 'route' && b.kind === 'route' && (a.nexthop ?? b.nexthop) !== undefined) {
    // With the sysctl net.ipv4.nexthop_compat_mode off the kernel does not list the device.
    const unlike = a.device !== b.device && a.device !== 0 && b.device !== 0;
    return a.nexthop === b.nexthop && a.protocol === b.protocol && !unlike;
  }
  if (a.device !== b.device) return false;
  if (a.kind === 'route' && b.kind === 'route') {
    return a.gateway?.text === b.gateway?.text && a.onlink === b.onlink && a.protocol === b.protocol;
  }
  if (a.kind === 'nexthop' && b.kind === 'nexthop') return a.gateway.text === b.gateway.text;
  if (a.kind === 'neighbour' && b.kind === 'neighbour') return a.mac === b.mac;
  if (a.kind === 'fdb' && b.kind === 'fdb') return a.destination.text === b.destination.text;
  return true;
}
