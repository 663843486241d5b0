import { type Address, type Prefix, prefixContains } from '../../model/address.ts';
import {
  type EntryMap,
  type FdbEntryPlan,
  fdbKey,
  type NeighbourEntry,
  type NexthopEntry,
  neighbourKey,
  nexthopKey,
  type OverlayEntry,
  ROUTE_PROTOCOL,
  type RouteEntry,
  routeKey,
  sameEntry,
} from './entries.ts';

const RTPROT_KERNEL = 2;
const RTPROT_BOOT = 3;
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
  /** RT_SCOPE_* */
  readonly scope: number;
  /** Preferred source address. */
  readonly source: Address | undefined;
  /** Id of the nexthop object it uses. */
  readonly nexthop: number | undefined;
}

export interface ListedNexthop {
  readonly id: number;
  /** Undefined for a group, a blackhole or one without a gateway. */
  readonly gateway: Address | undefined;
  readonly device: number;
  readonly protocol: number;
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
  /** Where a flanneld may have run before us: then what it left is ours, too. */
  readonly adoption?: Adoption | undefined;
}

/** How flanneld's routes through the underlay (host-gw, DirectRouting) look on this node. */
export interface Adoption {
  /** Index of the underlay device. */
  readonly underlay: number;
  /** Our own subnets: other nodes' are as long. */
  readonly subnets: readonly Prefix[];
}

/**
 * Ours are: routes that carry our mark; routes into the pod network through our VXLAN device, whoever made them (a
 * flanneld that ran here before); nexthop objects of that device with our mark; permanent neighbour and forwarding entries of that device.
 */
export function ownsRoute(route: ListedRoute, ownership: Ownership): boolean {
  if (route.protocol === ROUTE_PROTOCOL) return true;
  return (
    route.protocol !== RTPROT_KERNEL &&
    ownership.devices.has(route.device) &&
    ownership.networks.some((network) => within(network, route.destination))
  );
}

function within(network: Prefix, inner: Prefix): boolean {
  return network.length <= inner.length && prefixContains(network, inner.address);
}

/**
 * True for a route that is in every field as flanneld writes them for host-gw and DirectRouting: it has no mark of its
 * own there, and removes what it wrote only while it runs (flannel#2554).
 */
function looksLikeFlannels(route: ListedRoute, { adoption, networks }: Ownership): boolean {
  const { destination, gateway, device, onlink, protocol, metric, scope, source } = route;
  const { family } = destination;
  return (
    adoption !== undefined &&
    protocol === RTPROT_BOOT &&
    device === adoption.underlay &&
    gateway !== undefined &&
    gateway.family === family &&
    !onlink &&
    scope === 0 &&
    source === undefined &&
    metric === naturalMetrics[family.name] &&
    networks.some((network) => within(network, destination)) &&
    adoption.subnets.some((subnet) => subnet.family === family && subnet.length === destination.length)
  );
}

export function routeEntry(route: ListedRoute): RouteEntry | undefined {
  const { destination, gateway, device, onlink, protocol, metric, nexthop } = route;
  if (metric !== naturalMetrics[destination.family.name]) return undefined;
  const key = routeKey(destination);
  return { kind: 'route', key, destination, gateway, device, onlink, protocol, nexthop };
}

export function nexthopEntry({ id, gateway, device }: ListedNexthop): NexthopEntry | undefined {
  return gateway === undefined ? undefined : { kind: 'nexthop', key: nexthopKey(id), id, gateway, device };
}

export function neighbourEntry(entry: ListedNeighbour): NeighbourEntry | undefined {
  const { device, address, mac, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || mac === undefined) return undefined;
  return { kind: 'neighbour', key: neighbourKey(address), address, mac, device };
}

export function fdbEntry(entry: ListedFdbEntry): FdbEntryPlan | undefined {
  const { device, mac, destination, state } = entry;
  if ((state & NUD_PERMANENT) === 0 || destination === undefined) return undefined;
  return { kind: 'fdb', key: fdbKey(mac, destination.family), mac, destination, device };
}

/**
 * Collects, while the kernel lists them, its entries that are ours or stand where ours should. Of an entry that is as
 * desired only the desired object is kept, so that a listing of thousands leaves nothing behind.
 */
export class ActualEntries {
  private readonly all: EntryMap = new Map();
  /** What looks like flanneld's, until we know that we have not run here ourselves. */
  private readonly flannels: RouteEntry[] = [];
  private marked = false;
  private readonly ownership: Ownership;
  private readonly desired: EntryMap;

  constructor(ownership: Ownership, desired: EntryMap) {
    this.ownership = ownership;
    this.desired = desired;
  }

  /**
   * Everything that is ours. Routes that look like flanneld's are so only where no route carries our mark: where one does,
   * an earlier run of ours has adopted the node, and such a route is somebody else's.
   */
  get entries(): EntryMap {
    if (!this.marked) for (const entry of this.flannels.splice(0)) this.add(entry, true);
    return this.all;
  }

  private add(entry: OverlayEntry | undefined, owned: boolean): void {
    if (entry === undefined) return;
    const { key } = entry;
    const wanted = this.desired.get(key);
    if (wanted !== undefined && sameEntry(wanted, entry)) this.all.set(key, wanted);
    else if (owned || wanted !== undefined) this.all.set(key, entry);
  }

  route(route: ListedRoute): void {
    const entry = routeEntry(route);
    if (route.protocol === ROUTE_PROTOCOL) this.marked = true;
    if (entry !== undefined && looksLikeFlannels(route, this.ownership)) this.flannels.push(entry);
    this.add(entry, ownsRoute(route, this.ownership));
  }

  nexthop(nexthop: ListedNexthop): void {
    this.add(nexthopEntry(nexthop), nexthop.protocol === ROUTE_PROTOCOL);
  }

  neighbour(neighbour: ListedNeighbour): void {
    this.add(neighbourEntry(neighbour), true);
  }

  fdb(forwarding: ListedFdbEntry): void {
    this.add(fdbEntry(forwarding), true);
  }
}
