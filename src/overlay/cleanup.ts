import { kernelFamilies } from '../kernel/ipv6.ts';
import { deleteLink, type Link } from '../kernel/netlink/links.ts';
import { deleteNexthop, hasNexthops, nexthopsOf } from '../kernel/netlink/nexthops.ts';
import { deleteRoute, routesOf } from '../kernel/netlink/routes.ts';
import type { Change, RtSocket } from '../kernel/netlink/socket.ts';
import { isTwillError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';
import { isOverlayName } from './plan/device.ts';
import { ROUTE_PROTOCOL } from './plan/entries.ts';

/** All of them in one batch; what went meanwhile, with a device say, is gone as it should be. */
async function removeAll(socket: RtSocket, changes: readonly Change[]): Promise<void> {
  const errors = await socket.batch(changes);
  const failed = errors.find((error) => error !== undefined && !isTwillError(error, 'not-found'));
  if (failed !== undefined) throw failed;
}

async function routeRemovals(socket: RtSocket): Promise<Removal[]> {
  const removals: Removal[] = [];
  for (const family of kernelFamilies()) {
    const routes = (await socket.list(routesOf(family))).filter(
      ({ protocol }) => protocol === ROUTE_PROTOCOL,
    );
    if (routes.length === 0) continue;
    removals.push({
      what: `${routes.length} ${family.kubeName} routes of protocol ${ROUTE_PROTOCOL} removed`,
      apply: () => removeAll(socket, routes.map(deleteRoute)),
    });
  }
  return removals;
}

async function nexthopRemovals(socket: RtSocket): Promise<Removal[]> {
  if (!(await hasNexthops(socket))) return [];
  const found = (await socket.list(nexthopsOf())).filter(({ protocol }) => protocol === ROUTE_PROTOCOL);
  if (found.length === 0) return [];
  const apply = (): Promise<void> =>
    removeAll(
      socket,
      found.map(({ id }) => deleteNexthop(id)),
    );
  return [{ what: `${found.length} nexthop objects of protocol ${ROUTE_PROTOCOL} removed`, apply }];
}

/** Routes, nexthop objects, and the VXLAN devices with their neighbour and forwarding entries. */
export async function findOverlay(socket: RtSocket, links: readonly Link[]): Promise<Removal[]> {
  const devices = links.filter(({ name, kind }) => kind === 'vxlan' && isOverlayName(name));
  return [
    ...(await routeRemovals(socket)),
    ...(await nexthopRemovals(socket)),
    ...devices.map(
      ({ index, name }): Removal => ({
        what: `device ${name}: removed, with its neighbours and forwarding entries`,
        flannels: `device ${name}`,
        apply: () => removeAll(socket, [deleteLink(index, name)]),
      }),
    ),
  ];
}
