import { deleteBlackhole, setBlackhole } from '../kernel/netlink/routes.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import type { Prefix } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { ROUTE_PROTOCOL } from './plan/entries.ts';

/** Behind every route that a bridge or an administrator has. */
const METRIC = 0x7fff_ffff;

/**
 * Routes that discard what is for our own subnets while no bridge takes it: on a node without a pod it would otherwise
 * leave by the default route, and come back (flannel#2245).
 */
export class Blackholes {
  private readonly socket: RtSocket;
  private readonly wanted: boolean;
  /** Subnets that may have such a route of ours. */
  private standing: readonly Prefix[];

  /** @param previous subnets of an earlier run */
  constructor(socket: RtSocket, wanted: boolean, previous: readonly Prefix[]) {
    this.socket = socket;
    this.wanted = wanted;
    this.standing = previous;
  }

  /** @throws TwillError by errno */
  async ensure(subnets: readonly Prefix[]): Promise<void> {
    const plan = (destination: Prefix) => ({ destination, protocol: ROUTE_PROTOCOL, metric: METRIC });
    const kept = this.wanted ? subnets : [];
    const gone = this.standing.filter(({ text }) => !kept.some((subnet) => subnet.text === text));
    const results = await this.socket.batch([
      ...gone.map((subnet) => deleteBlackhole(plan(subnet))),
      ...kept.map((subnet) => setBlackhole(plan(subnet))),
    ]);
    for (const error of results) if (error !== undefined && !isTwillError(error, 'not-found')) throw error;
    this.standing = kept;
  }
}

/** What takes such routes of these subnets away; whether there are any is seen when it is done. */
export function blackholeRemovals(socket: RtSocket, subnets: readonly Prefix[]): Removal[] {
  return subnets.map((subnet) => ({
    what: `route that discards what is for ${subnet.text}: removed, if there is one`,
    apply: () => new Blackholes(socket, false, [subnet]).ensure([]),
  }));
}
