import { type Address, type Prefix, prefixContains } from '../model/address.ts';
import {
  type EntryMap,
  entryKey,
  type FdbEntryPlan,
  type NeighbourEntry,
  type OverlayEntry,
  ROUTE_PROTOCOL,
  type RouteEntry,
  sameEntry,
} from './overlay-entries.ts';

const RTPROT_KERNEL = 2;
/** Routes without an explicit metric, as ours are: the kernel shows 0 for IPv4 and 1024 for IPv6. */
const naturalMetrics = { ipv4: 0, ipv6: 1024 } as const;
const NUD_PERMANENT = 0x80;

/** What the kernel lists; device numbers are interface indexes. */
export interface ListedRoute {
  readonly destination: Prefix;
  readonly gateway: Address | undefined;
  readonly device: number;
  readonly onlink: boolean;
  readonly protocol: number;
  readonly metric: number;
}

export interface ListedNeighbour {
  readonly device: number;
  readonly address: Address;
  readonly mac: string | undefined;
  /** NUD_* bits. */
  readonly state: number;
}

export interface ListedFdbEntry {
  readonly device: number;
  readonly mac: string;
  readonly destination: Address | undefined;
  /** NUD_* bits. */
  readonly state: number;
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
export function ownsRoute(route: ListedRoute, ownership: Ownership): boolean {
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

export function routeEntry(route: ListedRoute): RouteEntry | undefined {
  const { destination, gateway, device, onlink, protocol, metric } = route;
  if (metric !== naturalMetrics[destination.family.name]) return undefined;
  return { kind: 'route', destination, gateway, device, onlink, protocol };
}

export function neighbourEntry(entry: ListedNeighbour): NeighbourEntry | undefined {
  const { device, address, mac, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || mac === undefined) return undefined;
  return { kind: 'neighbour', address, mac, device };
}

export function fdbEntry(entry: ListedFdbEntry): FdbEntryPlan | undefined {
  const { device, mac, destination, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || destination === undefined) return undefined;
  return { kind: 'fdb', mac, destination, device };
}

/**
 * Collects, while the kernel lists them, its entries that are ours or stand where ours should. Of an entry that is as
 * desired only the desired object is kept, so that a listing of thousands leaves nothing behind.
 */
export class ActualEntries {
  readonly entries: EntryMap = new Map();
  private readonly ownership: Ownership;
  private readonly desired: EntryMap;

  constructor(ownership: Ownership, desired: EntryMap) {
    this.ownership = ownership;
    this.desired = desired;
  }

  private add(entry: OverlayEntry | undefined, owned: boolean): void {
    if (entry === undefined) return;
    const key = entryKey(entry);
    const wanted = this.desired.get(key);
    if (wanted !== undefined && sameEntry(wanted, entry)) this.entries.set(key, wanted);
    else if (owned || wanted !== undefined) this.entries.set(key, entry);
  }

  route(route: ListedRoute): void {
    this.add(routeEntry(route), ownsRoute(route, this.ownership));
  }

  neighbour(neighbour: ListedNeighbour): void {
    this.add(neighbourEntry(neighbour), true);
  }

  fdb(forwarding: ListedFdbEntry): void {
    this.add(fdbEntry(forwarding), true);
  }
}
