import type { Log } from '../config/log.ts';
import { fdbEntry, neighbourEntry, ownsRoute, routeEntry } from '../desired/overlay-actual.ts';
import { entryKey, type OverlayEntry, sameEntry } from '../desired/overlay-entries.ts';
import { parseInterfaceAddress } from '../kernel/netlink/addresses.ts';
import type { Message } from '../kernel/netlink/codec.ts';
import * as nl from '../kernel/netlink/constants.ts';
import { type Link, parseLink } from '../kernel/netlink/links.ts';
import { parseFdbEntry, parseNeighbour } from '../kernel/netlink/neighbours.ts';
import { parseRoute } from '../kernel/netlink/routes.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import type { Overlay } from './overlay.ts';

/** Milliseconds after which a device that was deleted is noticed even if its event is lost: none, ENOBUFS tells. */
const groups = [
  nl.RTNLGRP_LINK,
  nl.RTNLGRP_NEIGH,
  nl.RTNLGRP_IPV4_IFADDR,
  nl.RTNLGRP_IPV4_ROUTE,
  nl.RTNLGRP_IPV6_IFADDR,
  nl.RTNLGRP_IPV6_ROUTE,
];

/** Decides which kernel events say that something is not as it should be; our own changes do not. */
class EventFilter {
  private readonly overlay: Overlay;
  private readonly links = new Map<number, string>();

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /** @returns why to look again, undefined when the event changes nothing for us */
  reason(message: Message): string | undefined {
    switch (message.type) {
      case nl.RTM_NEWLINK:
      case nl.RTM_DELLINK:
        return this.link(message);
      case nl.RTM_NEWADDR:
      case nl.RTM_DELADDR:
        return this.address(message);
      case nl.RTM_NEWROUTE:
      case nl.RTM_DELROUTE:
        return this.route(message);
      case nl.RTM_NEWNEIGH:
      case nl.RTM_DELNEIGH:
        return this.neighbour(message);
      default:
        return undefined;
    }
  }

  /** Statistics and the like come as RTM_NEWLINK too: only what we look at counts. */
  private link(message: Message): string | undefined {
    const link = parseLink(message);
    if (link === undefined || !this.concerns(link)) return undefined;
    const print =
      message.type === nl.RTM_DELLINK
        ? 'gone'
        : `${link.name} ${link.up} ${link.running} ${link.mtu} ${link.mac}`;
    if (this.links.get(link.index) === print) return undefined;
    this.links.set(link.index, print);
    return `device ${link.name} changed`;
  }

  private concerns(link: Link): boolean {
    const underlay = this.overlay.underlay();
    if (underlay === undefined || link.index === underlay.index || link.name === underlay.name) return true;
    return link.name.startsWith('flannel') || this.deviceIndexes().has(link.index);
  }

  private deviceIndexes(): Set<number> {
    return new Set(this.overlay.deviceIndexes().values());
  }

  private address(message: Message): string | undefined {
    const address = parseInterfaceAddress(message);
    if (address === undefined) return undefined;
    const ours =
      this.overlay.underlay() === undefined ||
      address.index === this.overlay.underlay()?.index ||
      this.deviceIndexes().has(address.index);
    return ours ? `address ${address.address.text} changed` : undefined;
  }

  private route(message: Message): string | undefined {
    const route = parseRoute(message);
    if (route === undefined) return undefined;
    if (route.destination.length === 0) return 'a default route changed';
    const entry = routeEntry(route);
    const owned = ownsRoute(route, this.overlay.peers.owned());
    return this.entry(message.type === nl.RTM_NEWROUTE, entry, owned);
  }

  private neighbour(message: Message): string | undefined {
    const { devices } = this.overlay.peers.owned();
    const neighbour = parseNeighbour(message);
    const forwarding = neighbour === undefined ? parseFdbEntry(message) : undefined;
    const device = neighbour?.device ?? forwarding?.device;
    if (device === undefined || !devices.has(device)) return undefined;
    const entry = neighbour !== undefined ? neighbourEntry(neighbour) : forwarding && fdbEntry(forwarding);
    return this.entry(message.type === nl.RTM_NEWNEIGH, entry, true);
  }

  private entry(isNew: boolean, entry: OverlayEntry | undefined, owned: boolean): string | undefined {
    if (entry === undefined) return undefined;
    const key = entryKey(entry);
    const expected = this.overlay.peers.expected(key);
    if (expected === undefined) return isNew && owned ? `${key} appeared` : undefined;
    if (isNew && sameEntry(expected, entry)) return undefined;
    return `${key} changed`;
  }
}

/**
 * Lets the overlay look again whenever the kernel reports a change that we did not make.
 * @returns stops watching
 */
export function watchKernel(overlay: Overlay, log: Log): () => void {
  const socket = new RtSocket();
  const filter = new EventFilter(overlay);
  socket.subscribe(
    groups,
    (message) => {
      const reason = filter.reason(message);
      if (reason === undefined) return;
      log.debug({ reason }, 'the kernel reports a change');
      overlay.loop.trigger('kernel events');
    },
    () => overlay.loop.trigger('kernel events were lost'),
  );
  return () => socket.close();
}
