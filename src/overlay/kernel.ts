import {
  deleteFdb,
  deleteNeighbour,
  fdbOf,
  neighboursOf,
  setFdb,
  setNeighbour,
} from '../kernel/netlink/neighbours.ts';
import { deleteNexthop, nexthopsOf, replaceNexthop } from '../kernel/netlink/nexthops.ts';
import { deleteRoute, type Route, replaceRoute, routesOf } from '../kernel/netlink/routes.ts';
import type { Change, Listing, RtSocket } from '../kernel/netlink/socket.ts';
import type { TwillError } from '../model/error.ts';
import { ActualEntries, type Ownership } from './plan/actual.ts';
import type { OverlayChange } from './plan/diff.ts';
import { type EntryMap, JoinedEntries, type OverlayEntry, ROUTE_PROTOCOL } from './plan/entries.ts';
import type { FamilyPath } from './plan/peer.ts';

/** RT_SCOPE_NOWHERE in a deletion matches a route of any scope. */
const ANY_SCOPE = 255;

function routeChange(change: OverlayChange, entry: Extract<OverlayEntry, { kind: 'route' }>): Change {
  const { destination, device, gateway, onlink, protocol, nexthop } = entry;
  if (change.action === 'remove') {
    const route: Route = {
      destination,
      gateway,
      device,
      onlink,
      protocol,
      scope: ANY_SCOPE,
      source: undefined,
      metric: 0,
      nexthop,
    };
    return deleteRoute(route);
  }
  return replaceRoute({
    destination,
    device,
    onlink,
    protocol,
    nexthop,
    ...(gateway === undefined ? {} : { gateway }),
  });
}

function encode(change: OverlayChange): Change {
  const { entry, action } = change;
  const remove = action === 'remove';
  switch (entry.kind) {
    case 'route':
      return routeChange(change, entry);
    case 'nexthop':
      return remove ? deleteNexthop(entry.id) : replaceNexthop({ ...entry, protocol: ROUTE_PROTOCOL });
    case 'neighbour':
      return remove
        ? deleteNeighbour(entry.device, entry.address)
        : setNeighbour(entry.device, entry.address, entry.mac);
    case 'fdb':
      return remove
        ? deleteFdb(entry.device, entry.mac, entry.destination)
        : setFdb(entry.device, entry.mac, entry.destination);
  }
}

/**
 * Applies the changes in order; a refused one does not stop the others, and removing what is gone already succeeds.
 * @returns the refusals, by change
 */
export async function applyOverlay(
  socket: RtSocket,
  changes: readonly OverlayChange[],
): Promise<Map<OverlayChange, TwillError>> {
  const failures = new Map<OverlayChange, TwillError>();
  const results = await socket.batchOf(changes, encode);
  results.forEach((error, index) => {
    const change = changes[index]!;
    if (error === undefined || (change.action === 'remove' && error.code === 'not-found')) return;
    failures.set(change, error);
  });
  return failures;
}

/**
 * The kernel's entries that are ours or stand where ours should: from the routes of the main table, and the neighbour and
 * forwarding entries of our devices, one dump for each kind.
 */
export async function listOverlay(
  socket: RtSocket,
  paths: readonly FamilyPath[],
  ownership: Ownership,
  desired: EntryMap,
): Promise<JoinedEntries> {
  const lists: EntryMap[] = [];
  // One after the other: the kernel runs one dump at a time on a socket (EBUSY).
  const list = async <T>(
    listing: Listing<T>,
    add: (actual: ActualEntries, entry: T) => void,
  ): Promise<void> => {
    let actual = new ActualEntries(ownership, desired);
    const reset = (): void => {
      actual = new ActualEntries(ownership, desired);
    };
    await socket.each(listing, reset, (entry) => add(actual, entry));
    lists.push(actual.entries);
  };
  for (const { family, vxlan: device, nexthops } of paths) {
    await list(routesOf(family), (actual, entry) => actual.route(entry));
    if (device === undefined) continue;
    await list(neighboursOf(family, device), (actual, entry) => actual.neighbour(entry));
    if (nexthops) await list(nexthopsOf(device), (actual, entry) => actual.nexthop(entry));
    await list(fdbOf(device), (actual, entry) => actual.fdb(entry));
  }
  return new JoinedEntries(lists);
}
