import { lookUpRoutes } from '../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Address, families, type Prefix } from '../model/address.ts';
import type { Check } from '../model/health.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import type { EntryMap, RouteEntry } from './plan/entries.ts';
import {
  type AskedRoute,
  askedAddress,
  askedRoutes,
  coveringRoute,
  WayTurns,
  wayProblems,
} from './plan/way.ts';

/**
 * Asks the kernel whether packets take the routes to the other nodes that stand: no list of routes says what rules, other
 * tables, metrics and narrower routes make of them.
 */
export class PacketWays {
  private readonly socket: RtSocket;
  private readonly log: Log;
  private readonly limiter = new LogLimiter();
  private readonly turns = new WayTurns();
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
    this.turns.crossedBy(route);
    return true;
  }

  /**
   * Looks at some of the routes.
   * @param entries what stands
   * @param gateways those of this node's addresses that its pods send to: rules may choose by the source
   * @param nameOf the name of a device
   */
  async look(
    entries: EntryMap,
    gateways: readonly Address[],
    nameOf: (device: number) => string,
  ): Promise<void> {
    const routes = this.turns.next(entries);
    const asked: AskedRoute[] = [];
    for (const family of families) {
      const source = gateways.find((gateway) => gateway.family === family);
      const own = routes.filter(({ destination }) => destination.family === family);
      if (own.length > 0) asked.push(...(await this.ask(own, source)));
    }
    this.turns.answered(asked);
    this.found = wayProblems(asked, nameOf);
    for (const { detail } of this.found)
      if (this.limiter.allow('ways') !== undefined)
        this.log.warn({ problem: detail }, 'packets do not take our routes');
  }

  private async ask(routes: readonly RouteEntry[], source: Address | undefined): Promise<AskedRoute[]> {
    const addresses = routes.map(askedAddress);
    const ways = await lookUpRoutes(this.socket, addresses);
    const ofPods = source === undefined ? undefined : await lookUpRoutes(this.socket, addresses, { source });
    return askedRoutes(routes, ways, ofPods);
  }
}
