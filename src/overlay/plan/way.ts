import { type Address, makePrefix, type Prefix, prefixHost } from '../../model/address.ts';
import type { Check } from '../../model/health.ts';
import { type Entries, type EntryMap, type RouteEntry, routeKey } from './entries.ts';

/** How the kernel would send a packet to a pod, as far as it matters. */
export interface PacketWay {
  readonly device: number;
  readonly local: boolean;
  readonly gateway: Address | undefined;
}

/** A route of ours, and the answer for a pod behind it. */
export interface AskedRoute {
  readonly route: RouteEntry;
  readonly way: PacketWay | undefined;
}

/** The address that is asked for: the gateway of the pods over there. */
export function askedAddress({ destination }: RouteEntry): Address {
  return destination.length === destination.family.bits ? destination.address : prefixHost(destination, 1);
}

/** Our route that packets to the destination should take. @param length of the subnets of the destination's family */
export function coveringRoute(
  entries: Pick<Entries, 'get'>,
  { address, length: own }: Prefix,
  length: number,
): RouteEntry | undefined {
  if (own < length) return undefined;
  const entry = entries.get(routeKey(makePrefix(address, length)));
  return entry?.kind === 'route' ? entry : undefined;
}

/** True when packets take our route. */
export function isRight({ route, way }: AskedRoute): boolean {
  if (way === undefined || way.local) return false;
  // A route by a nexthop object need not say its device.
  if (route.device !== 0 && way.device !== route.device) return false;
  // Beside the tunnel routers may have said that there is a shorter way.
  return !route.onlink || route.gateway === undefined || way.gateway?.text === route.gateway.text;
}

/**
 * Of the ways that the node's own packets and its pods' take, for each route the one to be judged by: rules may choose by the
 * source.
 * @param ofPods undefined where no pod can be here: nobody has their gateway's address
 */
export function askedRoutes(
  routes: readonly RouteEntry[],
  ways: readonly (PacketWay | undefined)[],
  ofPods: readonly (PacketWay | undefined)[] | undefined,
): AskedRoute[] {
  return routes.map((route, index) => {
    const own = { route, way: ways[index] };
    return ofPods === undefined || !isRight(own) ? own : { route, way: ofPods[index] };
  });
}

/** Routes that are asked for at a time: of more nodes each has its turn. */
const AT_ONCE = 256;
/** Routes beside these that were wrong, and as many that others have set something across. */
const MOST_SUSPECTS = 256;

/** Which routes are asked for next: those under suspicion each time, and some of all others. */
export class WayTurns {
  private turn = 0;
  /** By key: those that were found wrong, or whose answers are not here yet. */
  private suspects: ReadonlySet<string> = new Set();
  /** Those that somebody else's route was set across since they were last asked for. */
  private readonly crossed = new Set<string>();

  /** Somebody else's route lies in the way of this one, or did. */
  crossedBy({ key }: RouteEntry): void {
    if (this.crossed.size < MOST_SUSPECTS) this.crossed.add(key);
  }

  next(entries: EntryMap): RouteEntry[] {
    const all: RouteEntry[] = [];
    for (const entry of entries.values()) if (entry.kind === 'route') all.push(entry);
    if (this.turn >= all.length) this.turn = 0;
    const some = all.slice(this.turn, this.turn + AT_ONCE);
    this.turn += AT_ONCE;
    this.suspects = new Set([...this.suspects, ...this.crossed]);
    this.crossed.clear();
    const suspects = [...this.suspects].flatMap((key) => {
      const entry = entries.get(key);
      return entry?.kind === 'route' ? [entry] : [];
    });
    return [...new Set([...suspects, ...some])];
  }

  /** The answers to {@link next}. What was crossed meanwhile is asked for again: the kernel may have answered before. */
  answered(asked: readonly AskedRoute[]): void {
    const wrong = asked.filter((one) => !isRight(one)).slice(0, MOST_SUSPECTS);
    this.suspects = new Set(wrong.map(({ route }) => route.key));
  }
}

/** Subnets that are named one by one. */
const MOST_NAMED = 3;

/**
 * What keeps packets from routes of ours that stand: a rule that looks somewhere else first, a route with a smaller metric
 * or a narrower destination. The kernel tells by the way that it takes.
 * @param nameOf the name of a device
 */
export function wayProblems(asked: readonly AskedRoute[], nameOf: (device: number) => string): Check[] {
  const wrong = asked.filter((one) => !isRight(one));
  const [first] = wrong;
  if (first === undefined) return [];
  const named = wrong.slice(0, MOST_NAMED).map(({ route, way }) => {
    const via = way?.gateway === undefined ? '' : ` via ${way.gateway.text}`;
    const leaves =
      way === undefined
        ? 'are discarded'
        : way.local
          ? 'stay on this node'
          : `leave by ${nameOf(way.device)}${via}`;
    return `those for ${route.destination.text} ${leaves} instead of by ${nameOf(route.device)}`;
  });
  const more = wrong.length > MOST_NAMED ? ', and so on' : '';
  const detail = `packets to pods of ${wrong.length} of ${asked.length} nodes do not take this node's routes to them: ${named.join(', ')}${more}; a routing rule, or another route, comes first: see 'ip route get ${askedAddress(first.route).text}', 'ip rule' and 'ip route show table all', and take it away, or add a rule before it ('ip rule add to NETWORK lookup main priority N')`;
  return [{ name: 'routes', state: 'warning', detail }];
}
