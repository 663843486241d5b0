import { isForOthers, parseInterfaceAddress } from '../kernel/netlink/addresses.ts';
import type { Message } from '../kernel/netlink/codec.ts';
import * as nl from '../kernel/netlink/constants.ts';
import { EventSocket } from '../kernel/netlink/events.ts';
import { notOfPods } from '../kernel/netlink/filter.ts';
import { type Link, parseLink } from '../kernel/netlink/links.ts';
import { parseFdbEntry, parseNeighbour } from '../kernel/netlink/neighbours.ts';
import { parseIpSettings } from '../kernel/netlink/netconf.ts';
import { parseNexthop } from '../kernel/netlink/nexthops.ts';
import { parseRoute, parseRouteDestination } from '../kernel/netlink/routes.ts';
import { monotonicMs } from '../process/clock.ts';
import { guarded } from '../process/guarded.ts';
import type { Log } from '../process/log.ts';
import type { Overlay } from './overlay.ts';
import { fdbEntry, neighbourEntry, nexthopEntry, ownsRoute, routeEntry } from './plan/actual.ts';
import { neighbourKey, type OverlayEntry, ROUTE_PROTOCOL, sameEntry } from './plan/entries.ts';
import { settingObject } from './settings.ts';
import { deviceObject } from './vteps.ts';

const groups = [
  nl.RTNLGRP_LINK,
  nl.RTNLGRP_NEIGH,
  nl.RTNLGRP_IPV4_IFADDR,
  nl.RTNLGRP_IPV4_ROUTE,
  nl.RTNLGRP_IPV6_IFADDR,
  nl.RTNLGRP_IPV6_ROUTE,
  nl.RTNLGRP_IPV4_NETCONF,
  nl.RTNLGRP_IPV6_NETCONF,
  nl.RTNLGRP_NEXTHOP,
  nl.RTNLGRP_IPV4_RULE,
  nl.RTNLGRP_IPV6_RULE,
];

/** Milliseconds between looks at the settings of which the kernel does not tell: br_netfilter's. */
const SETTINGS_MS = 3000;

/** What is not as it should be any more. */
interface Reason {
  readonly text: string;
  /** The name under which its repairs are counted. */
  readonly object: string;
}

const reason = (text: string, object = text): Reason => ({ text, object });

/** Decides which kernel events say that something is not as it should be; our own changes do not. */
class EventFilter {
  private readonly overlay: Overlay;
  private readonly links = new Map<number, string>();
  private readonly addresses = new Map<string, number>();

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /** @returns why to look again, undefined when the event changes nothing for us */
  reason(message: Message): Reason | undefined {
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
      case nl.RTM_NEWNEXTHOP:
      case nl.RTM_DELNEXTHOP:
        return this.nexthop(message);
      case nl.RTM_NEWRULE:
      case nl.RTM_DELRULE:
        return reason('a routing rule changed');
      case nl.RTM_NEWNEIGH:
      case nl.RTM_DELNEIGH:
        return this.neighbour(message);
      case nl.RTM_NEWNETCONF:
        return this.settings(message);
      default:
        return undefined;
    }
  }

  /** Statistics and the like come as RTM_NEWLINK too: only what we look at counts. */
  private link(message: Message): Reason | undefined {
    const link = parseLink(message);
    if (link === undefined || !this.concerns(link)) return undefined;
    const print =
      message.type === nl.RTM_DELLINK
        ? 'gone'
        : `${link.name} ${link.up} ${link.running} ${link.mtu} ${link.mac} ${link.master}`;
    if (this.links.get(link.index) === print) return undefined;
    this.links.set(link.index, print);
    return reason(`device ${link.name} changed`, deviceObject(link.name));
  }

  private concerns(link: Link): boolean {
    const underlay = this.overlay.underlay();
    if (
      underlay === undefined ||
      this.overlay.underlayDevices().has(link.index) ||
      link.name === underlay.name
    )
      return true;
    return link.name.startsWith('flannel') || this.deviceIndexes().has(link.index);
  }

  private deviceIndexes(): Set<number> {
    return new Set(this.overlay.deviceIndexes().values());
  }

  /** The address of the underlay may be on any device. A router's advertisement says it again each time. */
  private address(message: Message): Reason | undefined {
    const address = parseInterfaceAddress(message);
    if (address === undefined) return undefined;
    const { index, flags } = address;
    if (!isForOthers(address) && !this.deviceIndexes().has(index)) return undefined;
    const key = `${index} ${address.address.text}`;
    if (message.type === nl.RTM_DELADDR) this.addresses.delete(key);
    else if (this.addresses.get(key) === flags) return undefined;
    else this.addresses.set(key, flags);
    const name = this.overlay.vteps.nameOf(index);
    return reason(`address ${address.address.text} changed`, name && deviceObject(name));
  }

  private settings(message: Message): Reason | undefined {
    const settings = parseIpSettings(message);
    if (settings?.index !== nl.NETCONFA_IFINDEX_ALL || settings.forwarding !== false) return undefined;
    const [name] = this.overlay.settings.undone();
    return name === undefined ? undefined : reason(`${name} was turned off`, settingObject(name));
  }

  private route(message: Message): Reason | undefined {
    const route = parseRoute(message);
    if (route !== undefined) {
      const owned = ownsRoute(route, this.overlay.peers.owned());
      const found = this.entry(message.type === nl.RTM_NEWROUTE, routeEntry(route), owned);
      if (found !== undefined || owned) return found;
    }
    const destination = parseRouteDestination(message);
    if (destination === undefined) return undefined;
    // One that takes the place of ours, or comes before it, need not be of a kind that we have.
    if (!this.overlay.reachesBy(destination) && !this.overlay.crosses(destination)) return undefined;
    return reason(`the route to ${destination.text} changed`);
  }

  private nexthop(message: Message): Reason | undefined {
    const nexthop = parseNexthop(message);
    if (nexthop === undefined) return undefined;
    if (nexthop.protocol !== ROUTE_PROTOCOL) return reason('a nexthop object of routes changed');
    return this.entry(message.type === nl.RTM_NEWNEXTHOP, nexthopEntry(nexthop), true);
  }

  private neighbour(message: Message): Reason | undefined {
    const { devices } = this.overlay.peers.owned();
    const neighbour = parseNeighbour(message);
    const forwarding = neighbour === undefined ? parseFdbEntry(message) : undefined;
    const device = neighbour?.device ?? forwarding?.device;
    if (device === undefined || !devices.has(device)) return undefined;
    const entry = neighbour !== undefined ? neighbourEntry(neighbour) : forwarding && fdbEntry(forwarding);
    if (neighbour !== undefined && entry === undefined) {
      // A deletion comes as a failed entry without a MAC address.
      const key = neighbourKey(neighbour.address);
      return this.overlay.peers.expected(key) === undefined ? undefined : reason(`${key} changed`, key);
    }
    return this.entry(message.type === nl.RTM_NEWNEIGH, entry, true);
  }

  private entry(isNew: boolean, entry: OverlayEntry | undefined, owned: boolean): Reason | undefined {
    if (entry === undefined) return undefined;
    const { key } = entry;
    const expected = this.overlay.peers.expected(key);
    if (expected === undefined) return isNew && owned ? reason(`${key} appeared`, key) : undefined;
    if (isNew && sameEntry(expected, entry)) return undefined;
    return reason(`${key} changed`, key);
  }
}

/** Asks the overlay to look again: at once, or later where somebody keeps changing the object. */
class Trigger {
  private readonly overlay: Overlay;
  private timer: NodeJS.Timeout | undefined;
  private at = Number.POSITIVE_INFINITY;

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  pull(object: string): void {
    const now = monotonicMs();
    const wait = this.overlay.contest.wait(object, now);
    if (wait === 0) this.overlay.loop.trigger('kernel events');
    else if (now + wait < this.at) {
      this.stop();
      this.at = now + wait;
      this.timer = setTimeout(() => {
        this.at = Number.POSITIVE_INFINITY;
        this.overlay.loop.trigger('kernel events');
      }, wait);
    }
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}

/**
 * Lets the overlay look again whenever the kernel reports a change that we did not make.
 * @returns stops watching
 */
export function watchKernel(overlay: Overlay, log: Log): () => void {
  const filter = new EventFilter(overlay);
  const trigger = new Trigger(overlay);
  const socket = new EventSocket({
    groups,
    filter: notOfPods,
    onEvent: (message) => {
      const found = filter.reason(message);
      if (found === undefined) return;
      log.debug({ reason: found.text }, 'the kernel reports a change');
      trigger.pull(found.object);
    },
    onLost: () => overlay.loop.trigger('kernel events were lost'),
  });
  const look = guarded(log, 'looking at the settings of the node', () => {
    for (const name of overlay.settings.undone()) trigger.pull(settingObject(name));
  });
  const settings = setInterval(look, SETTINGS_MS);
  return () => {
    clearInterval(settings);
    trigger.stop();
    socket.close();
  };
}
