import { lookUpRoutes } from '../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Address, families, type Prefix } from '../model/address.ts';
import type { Check } from '../model/health.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import type { EntryMap, RouteEntry } from './plan/entries.ts';
import { type AskedRoute, askedAddress, coveringRoute, isRight, wayProblems } from './plan/way.ts';

/** Routes that are asked for at a time: of more nodes each has its turn. */
const AT_ONCE = 256;
/** Routes that others have set, into the networks of pods. */
const MOST_SUSPECTS = 256;

/**
 * Asks the kernel whether packets take the routes to the other nodes that stand: no list of routes says what rules, other
 * tables, metrics and narrower routes make of them.
 */
export class PacketWays {
  private readonly socket: RtSocket;
  private readonly log: Log;
  private readonly limiter = new LogLimiter();
  private turn = 0;
  /** Routes that were found wrong, or that somebody else's route was set across. */
  private suspects = new Map<string, RouteEntry>();
  private found: readonly Check[] = [];

  constructor(socket: RtSocket, log: Log) {
    this.socket = socket;
    this.log = log;
  }

  problems(): readonly Check[] {
    return this.found;
  }

  /**
   * Somebody else's route into a pod network has come or gone.
   * @param own our own subnets: others' are as long
   * @returns true where it lies in the way of a route of ours
   */
  seen(entries: Pick<EntryMap, 'get'>, destination: Prefix, own: readonly Prefix[]): boolean {
    const length = own.find(({ family }) => family === destination.family)?.length;
    const route = length === undefined ? undefined : coveringRoute(entries, destination, length);
    if (route === undefined) return false;
    if (this.suspects.size < MOST_SUSPECTS) this.suspects.set(route.key, route);
    return true;
  }

  /**
   * Looks at some of the routes.
   * @param entries what stands
   * @param gateways this node's addresses that its pods send to: rules may choose by the source
   * @param nameOf the name of a device
   */
  async look(
    entries: EntryMap,
    gateways: readonly Address[],
    nameOf: (device: number) => string,
  ): Promise<void> {
    const routes = this.chosen(entries);
    const asked: AskedRoute[] = [];
    for (const family of families) {
      const source = gateways.find((gateway) => gateway.family === family);
      const own = routes.filter(({ destination }) => destination.family === family);
      if (own.length > 0) asked.push(...(await this.ask(own, source)));
    }
    this.suspects = new Map(asked.filter((one) => !isRight(one)).map(({ route }) => [route.key, route]));
    this.found = wayProblems(asked, nameOf);
    for (const { detail } of this.found)
      if (this.limiter.allow('ways') !== undefined)
        this.log.warn({ problem: detail }, 'packets do not take our routes');
  }

  /** Those under suspicion, and the next of all. */
  private chosen(entries: EntryMap): RouteEntry[] {
    const all: RouteEntry[] = [];
    for (const entry of entries.values()) if (entry.kind === 'route') all.push(entry);
    if (this.turn >= all.length) this.turn = 0;
    const next = all.slice(this.turn, this.turn + AT_ONCE);
    this.turn += AT_ONCE;
    const suspects = [...this.suspects.keys()].flatMap((key) => {
      const entry = entries.get(key);
      return entry?.kind === 'route' ? [entry] : [];
    });
    return [...new Set([...suspects, ...next])];
  }

  private async ask(routes: readonly RouteEntry[], source: Address | undefined): Promise<AskedRoute[]> {
    const addresses = routes.map(askedAddress);
    const ways = await lookUpRoutes(this.socket, addresses);
    // As long as no pod is here nobody has that address, and the kernel says nothing.
    const ofPods = source === undefined ? [] : await lookUpRoutes(this.socket, addresses, { source });
    return routes.map((route, index) => {
      const one = { route, way: ways[index] };
      const another = { route, way: ofPods[index] };
      return another.way !== undefined && isRight(one) ? another : one;
    });
  }
}
