import { type Address, makePrefix, type Prefix, prefixHost } from '../../model/address.ts';
import type { Check } from '../../model/health.ts';
import { type Entries, type RouteEntry, routeKey } from './entries.ts';

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
