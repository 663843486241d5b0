import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Lease, subnetsOf } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { LeaseSource } from '../leases/plan/source.ts';
import { gatewayOf, renderSubnetFile } from '../leases/plan/subnet-file.ts';
import { type Family, ipv4, type Prefix } from '../model/address.ts';
import { Contest, contestedChecks } from '../model/contest.ts';
import { TwillError } from '../model/error.ts';
import type { Check } from '../model/health.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import { monotonicMs } from '../process/clock.ts';
import { writeFileAtomically } from '../process/files.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { Blackholes } from './blackhole.ts';
import { NodeGround } from './ground.ts';
import type { ListedHost } from './host.ts';
import { OverlayPeers } from './peers.ts';
import { type Underlay, whyNotOver } from './plan/device.ts';
import { BRIDGE, bridgeProblems, publicIpProblems } from './plan/ground.ts';
import type { FamilyPath } from './plan/peer.ts';
import { follows, podNetworkOf } from './plan/pod-network.ts';
import { NodeSettings, type Sysctls, standardSysctls } from './settings.ts';
import { NodeUnderlay, type UnderlayWish } from './underlay.ts';
import type { VtepMacs } from './vtep-macs.ts';
import { Vteps } from './vteps.ts';
import { PacketWays } from './ways.ts';

export interface OverlayOptions {
  readonly source: LeaseSource;
  readonly config: NetworkConfig;
  readonly socket: RtSocket;
  readonly macs: VtepMacs;
  /** Writes settings of the node. */
  readonly writeSysctl: Sysctls['write'];
  readonly log: Log;
  readonly underlay: UnderlayWish;
  readonly subnetFile: string;
  /** Subnets of an earlier run. */
  readonly previous: readonly Prefix[];
  /** Its pod networks. */
  readonly formerNetworks: readonly Prefix[];
  /** Name of the pods' bridge. */
  readonly bridge: string;
  /** Whether pods' traffic to the outside is masqueraded, for the subnet file. */
  readonly masquerade: boolean;
  readonly resyncMs: number;
  /** Whether what is for our subnets is discarded while no bridge takes it. */
  readonly blackholeRoute: boolean;
  /** What the VXLAN devices' transmit checksum offload has to be; undefined to leave it as it is. */
  readonly checksumOffload: boolean | undefined;
  /** Called when the answer of {@link Overlay.podNetwork} may have changed. */
  readonly onChange: () => void;
}

/** Reason of a run that needs no look at the kernel. */
const PEERS_CHANGED = 'leases changed';

/** Least milliseconds between runs: a burst of changed leases becomes one batch. */
const COLLECT_MS = 15;

/**
 * The overlay of this node: chooses the underlay, claims the lease, makes the VXLAN devices and keeps the peers' entries.
 * Any trigger but a change of leases makes it compare everything with the kernel.
 */
export class Overlay {
  readonly loop: ReconcileLoop;
  readonly peers: OverlayPeers;
  readonly vteps: Vteps;
  readonly settings: NodeSettings;
  /** What others keep changing. */
  readonly contest = new Contest();
  private readonly options: OverlayOptions;
  private readonly blackholes: Blackholes;
  private readonly ways: PacketWays;
  private network: NetworkConfig;
  private readonly limiter = new LogLimiter();
  private readonly node: NodeUnderlay;
  private readonly ground: NodeGround;
  private problems: readonly Check[] = [];
  /** Why the overlay cannot work over the underlay as it is now. */
  private unfit: string | undefined;
  private nexthops = false;
  /** The lease that the node's devices and routes were last looked after for. */
  private ensured: Lease | undefined;
  private state: PodNetworkState = { ready: false, reason: 'the overlay is starting' };
  /** What pods were last told follows from these. */
  private wired: { readonly own: Lease; readonly network: NetworkConfig } | undefined;

  constructor(options: OverlayOptions) {
    const { socket, log, macs, source } = options;
    this.options = options;
    this.network = options.config;
    this.peers = new OverlayPeers(socket, log, this.limiter, this.contest);
    this.settings = new NodeSettings(log, this.contest, {
      ...standardSysctls,
      write: options.writeSysctl,
    });
    this.blackholes = new Blackholes(socket, options.blackholeRoute, options.previous);
    this.ways = new PacketWays(socket, log);
    this.vteps = new Vteps({
      socket,
      macs,
      log,
      contest: this.contest,
      checksumOffload: options.checksumOffload,
      publishedMac: (family) => source.publishedMac(family),
      macContested: (family, mac) => source.macContested(family, mac),
    });
    const { bridge, formerNetworks: former } = options;
    this.ground = new NodeGround({ source, bridge, former });
    this.node = new NodeUnderlay({
      source,
      socket,
      log,
      wish: options.underlay,
      tunnels: () => this.vteps.indexes.values(),
    });
    this.loop = new ReconcileLoop({
      name: 'overlay',
      log,
      work: (reasons) => this.work(reasons),
      resyncMs: options.resyncMs,
      minIntervalMs: COLLECT_MS,
      backoffMs: { first: 100, longest: 5000 },
    });
  }

  /** The interface between nodes, and why it was chosen; undefined before the first choice. */
  underlay(): Underlay | undefined {
    return this.node.current;
  }

  /** Indexes of the devices by which packets to the other nodes leave. */
  underlayDevices(): ReadonlySet<number> {
    return this.node.devices();
  }

  /** True where a route to the destination decides by which device packets to other nodes, or to the outside, leave. */
  reachesBy(destination: Prefix): boolean {
    return this.node.reachesBy(destination);
  }

  /** True where somebody else's route is, or was, in the way of one of ours. */
  crosses(destination: Prefix): boolean {
    const subnets = this.ensured === undefined ? [] : subnetsOf(this.ensured);
    return this.ways.seen(this.peers.entries, destination, subnets);
  }

  /** Indexes of our VXLAN devices by family. */
  deviceIndexes(): ReadonlyMap<Family['name'], number> {
    return this.vteps.indexes;
  }

  private get families(): Family[] {
    return this.network.families.map(({ family }) => family);
  }

  /** @throws TwillError saying why this node cannot follow the configuration, e.g. no interface with an address for it */
  canFollow(network: NetworkConfig): Promise<void> {
    return this.node.canFollow(network);
  }

  /** Follows another network configuration from now on. */
  reconfigure(network: NetworkConfig): void {
    this.ground.leave(this.network);
    this.network = network;
    this.loop.trigger('the network configuration changed', true);
  }

  /** What does not keep pods' traffic from flowing now, but somebody should look at. */
  warnings(): Check[] {
    const unfit: Check[] =
      this.unfit === undefined ? [] : [{ name: 'underlay', state: 'warning', detail: this.unfit }];
    return [
      ...unfit,
      ...contestedChecks(this.contest, monotonicMs()),
      ...this.problems,
      ...this.node.problems(),
      ...this.ways.problems(),
    ];
  }

  /** While it is not ready, what holds the overlay up is the reason. */
  podNetwork(): PodNetworkState {
    if (this.state.ready) return this.state;
    const { lastError } = this.loop.status();
    return lastError === undefined ? this.state : { ready: false, reason: lastError };
  }

  /** Other nodes' leases changed. */
  peersChanged(): void {
    this.loop.trigger(PEERS_CHANGED);
  }

  private setState(state: PodNetworkState): void {
    this.state = state;
    this.options.onChange();
  }

  private async work(reasons: readonly string[]): Promise<void> {
    const { source } = this.options;
    const { network } = this;
    const asked = reasons.some((reason) => reason !== PEERS_CHANGED);
    // A new node may be reached another way than those that were there.
    const full = this.underlay() === undefined || asked || (await this.node.peersChanged(network));
    const host = full ? await this.node.look(network) : undefined;
    if (host !== undefined) await this.prepare(host);
    const own = source.own();
    // A lease of our own may come with the news of others', which ask for less.
    if (host === undefined && own !== this.ensured) return this.work(['our lease changed']);
    this.ensured = own;
    const underlay = this.underlay();
    if (own === undefined || underlay === undefined) {
      const { leaseError = 'not yet' } = source.status();
      this.setState({ ready: false, reason: `this node holds no lease: ${leaseError}` });
      return;
    }
    this.problems = [
      ...publicIpProblems(own, network.backend, underlay, this.ground.current),
      ...(host === undefined
        ? this.problems.filter(({ name }) => name === BRIDGE)
        : bridgeProblems(host.links, this.options.bridge)),
    ];
    let failure: Error | undefined;
    if (host !== undefined) {
      this.settings.ensure(this.families);
      failure = await this.vteps.ensure(host, network, underlay, own, this.wired?.network);
      this.settings.ensureDevices(this.families, {
        own: [
          ...this.vteps.plans().map(({ name, family }) => ({ name, families: [family] })),
          { name: this.options.bridge, families: this.families },
        ],
        others: [underlay.name],
      });
    }
    const input = {
      leases: source.leases(),
      own,
      paths: this.paths(underlay),
      backend: network.backend,
      ground: this.ground.current,
      adopting: this.options.previous.length > 0,
    };
    await this.peers.sync(input, full).catch((error: unknown) => {
      throw failure ?? error;
    });
    if (failure !== undefined) throw failure;
    if (host !== undefined) {
      await this.vteps.retire(host, network);
      await this.blackholes.ensure(subnetsOf(own));
    }
    this.publish(underlay, own);
    if (host !== undefined) await this.lookAtWays(host, own);
  }

  private lookAtWays({ links, addresses }: ListedHost, own: Lease): Promise<void> {
    const names = new Map(links.map(({ index, name }) => [index, name]));
    const nameOf = (index: number): string =>
      this.vteps.nameOf(index) ?? names.get(index) ?? `device ${index}`;
    const standing = new Set(addresses.map(({ address }) => address.text));
    const gateways = own.families.map(({ subnet }) => gatewayOf(subnet));
    // Before the first pod nobody has these, and the kernel takes no packet from them.
    const used = gateways.filter(({ text }) => standing.has(text));
    return this.ways.look(this.peers.entries, used, nameOf);
  }

  /** Chooses the underlay and says what our lease should be. */
  private async prepare(host: ListedHost): Promise<void> {
    const { source, previous } = this.options;
    const config = this.network;
    const underlay = await this.node.choose(host, config);
    this.unfit = whyNotOver(underlay, config);
    // What works is not given up for it, as far as the kernel lets it.
    if (this.unfit !== undefined && !this.state.ready) throw new TwillError('invalid', this.unfit);
    this.nexthops = host.nexthops;
    const { taken } = this.ground.look(host, config);
    source.claim({
      config,
      identity: {
        publicIps: this.node.publicIps(underlay, config),
        vtepMacs: this.vteps.wantedMacs(host, config),
        previous,
        avoid: taken.map(({ prefix }) => prefix),
      },
    });
  }

  private paths(underlay: Underlay): FamilyPath[] {
    return this.families.map((family) => ({
      ...this.node.path(underlay, family, this.network),
      family,
      vxlan: this.vteps.indexes.get(family.name),
      // The kernel tells IPv6 routes apart without comparing their gateways.
      nexthops: this.nexthops && family === ipv4,
    }));
  }

  /** Tells pods' side and the subnet file what holds now. */
  private publish(underlay: Underlay, own: Lease): void {
    const { subnetFile, masquerade, log } = this.options;
    const config = this.network;
    // Until our lease follows a changed configuration, pods go on by the one of before.
    if (this.state.ready && !follows(own, config)) return;
    const network = podNetworkOf(own, config, underlay);
    const { mtu } = network;
    if (writeFileAtomically(subnetFile, renderSubnetFile(network, masquerade)))
      log.info({ file: subnetFile, lease: own.name, mtu }, 'wrote the subnet file');
    const { wired, state } = this;
    if (state.ready && wired?.own === own && wired.network === config && state.network.mtu === mtu) return;
    this.wired = { own, network: config };
    this.setState({ ready: true, network });
  }
}
