import { hasIpv6 } from '../kernel/ipv6.ts';
import { lookUpRoutes } from '../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { LeaseSource } from '../leases/plan/source.ts';
import { type Address, type Family, ipv6, type Prefix } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { Check } from '../model/health.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { type ListedHost, listHost } from './host.ts';
import { needsEach, PeerRoutes } from './peer-routes.ts';
import { type Underlay, vxlanName, whyNotOver } from './plan/device.ts';
import { likelyWrong } from './plan/egress.ts';
import { plausibleNodes } from './plan/ground.ts';
import { domainOf, type HostNetwork } from './plan/host-network.ts';
import type { FamilyPath } from './plan/peer.ts';
import { chooseUnderlay, type UnderlayOptions } from './plan/underlay.ts';

/** What the user said about the underlay. */
export type UnderlayWish = Omit<UnderlayOptions, 'families' | 'internalIps' | 'inUse'>;

export interface NodeUnderlayOptions {
  readonly source: LeaseSource;
  readonly socket: RtSocket;
  readonly wish: UnderlayWish;
  readonly log: Log;
  /** Indexes of our own tunnels. */
  readonly tunnels: () => Iterable<number>;
}

/** Longest prefixes of routes that stand for a default route: two halves, and all that is given out of IPv6. */
const WIDE = { ipv4: 1, ipv6: 3 } as const;

/** So many other nodes are asked for to doubt the choice. */
const MOST_DOUBTED = 16;

const familiesOf = ({ families }: NetworkConfig): Family[] => families.map(({ family }) => family);

/** Chooses the underlay, and follows what the kernel says of the ways to the other nodes. */
export class NodeUnderlay {
  private readonly options: NodeUnderlayOptions;
  private readonly routes: PeerRoutes;
  private readonly limiter = new LogLimiter();
  private chosen: Underlay | undefined;
  private followed: Underlay | undefined;
  private links: ListedHost['links'] = [];
  private found: readonly Check[] = [];
  private tunnelNames: ReadonlyMap<Family['name'], string> = new Map();

  constructor(options: NodeUnderlayOptions) {
    this.options = options;
    this.routes = new PeerRoutes(options.socket);
  }

  /** Undefined before the first choice. */
  get current(): Underlay | undefined {
    return this.followed;
  }

  /** Indexes of the devices by which packets to the other nodes leave. */
  devices(): ReadonlySet<number> {
    const devices = new Set(this.routes.devices());
    if (this.chosen !== undefined) devices.add(this.chosen.index);
    return devices;
  }

  /** Half of all addresses is as good as a default route. */
  reachesBy(destination: Prefix): boolean {
    return destination.length <= WIDE[destination.family.name] || this.routes.within(destination);
  }

  /** @throws TwillError `unavailable` for IPv6 where the kernel has none */
  async look(config: NetworkConfig): Promise<ListedHost> {
    const { socket, wish } = this.options;
    if (familiesOf(config).includes(ipv6) && !hasIpv6())
      throw new TwillError(
        'unavailable',
        'EnableIPv6 is true in the network configuration, and this kernel has no IPv6: start it without ipv6.disable=1',
      );
    return listHost(socket, familiesOf(config), wish.canReach, this.chosen?.index);
  }

  /** @throws TwillError saying why this node cannot follow the configuration, e.g. no interface with an address for it */
  async canFollow(config: NetworkConfig): Promise<void> {
    const host = await this.look(config);
    const why = whyNotOver(chooseUnderlay(host, this.wish(host, config)), config);
    if (why !== undefined) throw new TwillError('invalid', why);
  }

  private wish(host: HostNetwork & Pick<ListedHost, 'links'>, config: NetworkConfig): UnderlayOptions {
    const { wish, source } = this.options;
    return {
      ...wish,
      families: familiesOf(config),
      publicIps: [...source.publicIps(), ...wish.publicIps],
      internalIps: source.internalIps(),
      inUse: this.inUse(host, config),
    };
  }

  /** What this process chose; after a restart what its tunnel says, else the leases. */
  private inUse(
    { links, addresses }: ListedHost | (HostNetwork & Pick<ListedHost, 'links'>),
    config: NetworkConfig,
  ): UnderlayOptions['inUse'] {
    const { backend } = config;
    const standing = familiesOf(config).flatMap((family) => {
      const name = backend.type === 'vxlan' ? vxlanName(family, backend.vni) : undefined;
      return links.find((link) => link.name === name)?.vxlan ?? [];
    });
    const own = new Map(addresses.map(({ address }) => [address.text, address]));
    const published = [...this.options.source.leases().values()].flatMap(({ families }) =>
      families.flatMap(({ publicIp }) => own.get(publicIp.text) ?? []),
    );
    return {
      addresses: [
        ...(this.chosen?.addresses.values() ?? []),
        ...standing.flatMap(({ local }) => local ?? []),
        ...published,
      ],
      device: this.chosen?.index ?? standing.find(({ underlayIndex }) => underlayIndex !== 0)?.underlayIndex,
    };
  }

  /** Chooses, and asks for the ways to all nodes. @throws TwillError `unavailable` when there is nothing to choose */
  async choose(host: ListedHost, config: NetworkConfig): Promise<Underlay> {
    const { log } = this.options;
    const before = this.chosen;
    const chosen = this.pick(host, config);
    if (before?.name !== chosen.name || before.why !== chosen.why)
      log.info({ interface: chosen.name, mtu: chosen.mtu, why: chosen.why }, 'chose the underlay interface');
    this.chosen = chosen;
    this.links = host.links;
    const { backend } = config;
    this.tunnelNames = new Map(
      familiesOf(config).map((family) => [
        family.name,
        backend.type === 'vxlan' ? vxlanName(family, backend.vni) : '',
      ]),
    );
    await this.routes.look(this.input(config, chosen), true);
    this.found = await this.doubts(chosen, config);
    for (const { detail } of this.found)
      if (this.limiter.allow(detail) !== undefined)
        log.warn({ problem: detail }, 'the underlay interface may be the wrong one');
    return this.follow(chosen);
  }

  /** What speaks against the choice, where it was not the user's. */
  problems(): readonly Check[] {
    return this.found;
  }

  private async doubts(chosen: Underlay, config: NetworkConfig): Promise<Check[]> {
    const { socket, wish, source } = this.options;
    const { interfaces, interfacePatterns, canReach, publicIps } = wish;
    const told = [...interfaces, ...interfacePatterns, ...publicIps, ...source.publicIps()];
    if (told.length > 0 || canReach !== undefined) return [];
    const device = domainOf(this.links, chosen.index);
    const nameOf = (index: number): string =>
      this.links.find((link) => link.index === index)?.name ?? `device ${index}`;
    const found: Check[] = [];
    for (const family of familiesOf(config)) {
      const routes = await lookUpRoutes(socket, this.routes.sample(family, MOST_DOUBTED), { device });
      found.push(...likelyWrong(chosen, family, routes, nameOf));
    }
    return found;
  }

  /** Asks for the ways to nodes that are new. @returns whether the underlay is another for that */
  async peersChanged(config: NetworkConfig): Promise<boolean> {
    if (this.chosen === undefined || !(await this.routes.look(this.input(config, this.chosen), false)))
      return false;
    const before = print(this.followed);
    return print(this.follow(this.chosen)) !== before;
  }

  private input(config: NetworkConfig, underlay: Underlay) {
    const { source, tunnels } = this.options;
    const leases = source.leases();
    const plausible = plausibleNodes(leases, config, underlay.addresses.values());
    const domain = domainOf(this.links, underlay.index);
    return { leases, plausible, backend: config.backend, underlay, domain, tunnels: new Set(tunnels()) };
  }

  private follow(chosen: Underlay): Underlay {
    const tunnels = new Set(this.options.tunnels());
    const { followed } = this;
    const same = followed?.name === chosen.name;
    const before = same ? followed : { carries: chosen.carries.filter((name) => !this.unbound(name)) };
    this.followed = this.routes.follow({ underlay: chosen, tunnels, before }, this.links);
    return this.followed;
  }

  /** An earlier run has left the family's device without a device to send by. */
  private unbound(name: Family['name']): boolean {
    const device = this.tunnelNames.get(name);
    return this.links.some((link) => link.name === device && link.vxlan?.underlayIndex === 0);
  }

  /** While nothing fits (a default route is missing for a moment) the standing choice holds, if it still can. */
  private pick(host: ListedHost, config: NetworkConfig): Underlay {
    const wish = this.wish(host, config);
    const { chosen } = this;
    try {
      return chooseUnderlay(host, wish);
    } catch (error) {
      if (chosen === undefined) throw error;
      let kept: Underlay;
      try {
        kept = chooseUnderlay(host, { ...wish, interfaces: [chosen.name], interfacePatterns: [] });
      } catch {
        throw error; // which speaks of what the user wants
      }
      if (this.limiter.allow('underlay') !== undefined)
        this.options.log.warn(
          { interface: kept.name, error: describeError(error) },
          'keeping the underlay interface',
        );
      return { ...kept, why: chosen.why };
    }
  }

  /** The IPs that the user set, else our addresses. */
  publicIps(underlay: Underlay, config: NetworkConfig): Address[] {
    const { source, wish } = this.options;
    const set = [...source.publicIps(), ...wish.publicIps];
    return familiesOf(config).flatMap(
      (family) => set.find((ip) => ip.family === family) ?? underlay.addresses.get(family.name) ?? [],
    );
  }

  /** The part of a family's path that the underlay decides. */
  path(
    underlay: Underlay,
    family: Family,
    { backend }: NetworkConfig,
  ): Pick<FamilyPath, 'underlay' | 'networks' | 'onLink' | 'reach'> {
    return {
      underlay: underlay.index,
      networks: underlay.networks.filter((network) => network.family === family),
      onLink: (publicIp) => this.routes.onLink(publicIp),
      reach: needsEach(backend) ? this.routes.version : 0,
    };
  }
}

const print = (underlay: Underlay | undefined): string => `${underlay?.mtu} ${underlay?.carries.join()}`;
