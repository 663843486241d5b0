import { kernelFamilies } from '../kernel/ipv6.ts';
import { type InterfaceAddress, isForOthers, listAddresses } from '../kernel/netlink/addresses.ts';
import { listLinks } from '../kernel/netlink/links.ts';
import { deleteRoute, type Route, routesOf } from '../kernel/netlink/routes.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import type { Address } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { isOverlayName } from './plan/device.ts';
import { ROUTE_PROTOCOL } from './plan/entries.ts';
import { takenAddresses, wrongRoutes } from './plan/ground.ts';

export interface WithdrawOptions {
  readonly socket: RtSocket;
  /** Where the leases come from, as far as that is known. */
  readonly servers: readonly Address[];
  readonly bridge: string;
  readonly log: Log;
}

/** Ours: with our mark, or through one of our devices, as flanneld makes them. And the gateways of the others. */
async function listCandidates(
  socket: RtSocket,
  ours: ReadonlySet<number>,
): Promise<{ candidates: Route[]; gateways: Address[] }> {
  const candidates: Route[] = [];
  const gateways: Address[] = [];
  for (const family of kernelFamilies()) {
    const found: { routes: Route[]; gateways: Address[] } = { routes: [], gateways: [] };
    const reset = (): void => {
      found.routes = [];
      found.gateways = [];
    };
    await socket.each(routesOf(family), reset, (route) => {
      const own =
        route.protocol === ROUTE_PROTOCOL || (ours.has(route.device) && route.gateway !== undefined);
      if (own) found.routes.push(route);
      else if (route.gateway !== undefined) found.gateways.push(route.gateway);
    });
    candidates.push(...found.routes);
    gateways.push(...found.gateways);
  }
  return { candidates, gateways };
}

/**
 * Takes back routes of ours that stand where this node's own networks, its gateways or the servers of the leases are: an
 * older version made them of a lease. It asks nobody: such a route may be what keeps the source of the leases away.
 * @throws TwillError by errno
 */
export async function withdrawWrongRoutes({ socket, servers, bridge, log }: WithdrawOptions): Promise<void> {
  const links = await listLinks(socket);
  const ours = new Set(
    links.filter(({ name, kind }) => kind === 'vxlan' && isOverlayName(name)).map(({ index }) => index),
  );
  const { candidates, gateways } = await listCandidates(socket, ours);
  if (candidates.length === 0) return;
  const addresses: InterfaceAddress[] = [];
  for (const family of kernelFamilies()) addresses.push(...(await listAddresses(socket, family)));
  const reached = addresses.filter(isForOthers);
  const pods = (name: string): boolean => name === bridge || isOverlayName(name);
  const taken = takenAddresses({ links, addresses: reached, gateways, servers }, pods);
  for (const { route, taken: by } of wrongRoutes(candidates, taken)) {
    try {
      await socket.request(deleteRoute(route));
    } catch (error) {
      if (!isTwillError(error, 'not-found')) throw error;
    }
    log.error(
      { route: route.destination.text, overlaps: by.prefix.text, what: by.what },
      'withdrew a route of ours that took addresses away which are in use',
    );
  }
}
