import { type Log, LogLimiter } from '../config/log.ts';
import { planVxlan, podMtu, type Underlay, vxlanName } from '../desired/overlay-device.ts';
import type { FamilyPath } from '../desired/overlay-planner.ts';
import { chooseUnderlay, type UnderlayOptions } from '../desired/overlay-underlay.ts';
import { gatewayOf, renderSubnetFile } from '../desired/subnet-file.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type ListedHost, listHost } from '../kernel/overlay.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { type Address, type Family, ipv4, type Prefix } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { type Lease, leaseFamily } from '../model/lease.ts';
import type { NetworkConfig } from '../model/network-config.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import { writeFileAtomically } from '../store/files.ts';
import { randomMac, type VtepMacs } from '../store/vtep-macs.ts';
import type { LeaseSource } from './lease-source.ts';
import { ReconcileLoop } from './loop.ts';
import { ensureVxlan } from './overlay-devices.ts';
import { OverlayPeers } from './overlay-peers.ts';

export interface OverlayOptions {
  readonly source: LeaseSource;
  readonly config: NetworkConfig;
  readonly socket: RtSocket;
  readonly macs: VtepMacs;
  readonly log: Log;
  readonly underlay: Omit<UnderlayOptions, 'families' | 'internalIps'>;
  readonly subnetFile: string;
  /** Subnets of an earlier run. */
  readonly previous: readonly Prefix[];
  /** Whether pods' traffic to the outside is masqueraded, for the subnet file. */
  readonly masquerade: boolean;
  readonly resyncMs: number;
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
  /** Settings of our devices that had to be put right after they had stood. */
  deviceRepairs = 0;
  private readonly options: OverlayOptions;
  private readonly families: readonly Family[];
  private readonly limiter = new LogLimiter();
  private current: Underlay | undefined;
  private devices = new Map<Family['name'], number>();
  private state: PodNetworkState = { ready: false, reason: 'the overlay is starting' };
  private wired: Lease | undefined;

  constructor(options: OverlayOptions) {
    this.options = options;
    this.families = options.config.families.map(({ family }) => family);
    this.peers = new OverlayPeers(options.socket, options.log, this.limiter);
    this.loop = new ReconcileLoop({
      name: 'overlay',
      log: options.log,
      work: (reasons) => this.work(reasons),
      resyncMs: options.resyncMs,
      minIntervalMs: COLLECT_MS,
      backoffMs: { first: 100, longest: 5000 },
    });
  }

  /** The interface between nodes, and why it was chosen; undefined before the first choice. */
  underlay(): Underlay | undefined {
    return this.current;
  }

  /** Indexes of our VXLAN devices by family. */
  deviceIndexes(): ReadonlyMap<Family['name'], number> {
    return this.devices;
  }

  podNetwork(): PodNetworkState {
    return this.state;
  }

  /** Other nodes' leases changed. */
  peersChanged(): void {
    this.loop.trigger(PEERS_CHANGED);
  }

  private setState(state: PodNetworkState): void {
    this.state = state;
    this.options.onChange();
  }

  private look(): Promise<ListedHost> {
    const { socket, underlay } = this.options;
    return listHost(socket, this.families, underlay.canReach);
  }

  private async work(reasons: readonly string[]): Promise<void> {
    const { source, config } = this.options;
    const full = this.current === undefined || reasons.some((reason) => reason !== PEERS_CHANGED);
    const host = full ? await this.look() : undefined;
    if (host !== undefined) this.prepare(host);
    const own = source.own();
    const underlay = this.current;
    if (own === undefined || underlay === undefined) {
      this.setState({ ready: false, reason: 'this node holds no lease: see the log of the lease loop' });
      return;
    }
    if (host !== undefined) await this.ensureDevices(host, underlay, own);
    await this.peers.sync(
      {
        leases: source.leases(),
        own,
        paths: this.paths(underlay),
        backend: config.backend,
        networks: config.families.map(({ network }) => network),
      },
      full,
    );
    this.publish(underlay, own);
  }

  /** Chooses the underlay and says what our lease should be. */
  private prepare(host: ListedHost): void {
    const { config, source, log, previous } = this.options;
    const underlay = this.choose(host);
    if (this.current?.name !== underlay.name || this.current.why !== underlay.why)
      log.info(
        { interface: underlay.name, mtu: underlay.mtu, why: underlay.why },
        'chose the underlay interface',
      );
    this.current = underlay;
    source.claim({
      config,
      identity: { publicIps: this.publicIps(underlay), vtepMacs: this.vtepMacs(host), previous },
    });
  }

  /** While nothing fits (a default route is missing for a moment) the standing choice holds, if it still can. */
  private choose(host: ListedHost): Underlay {
    const { underlay, source } = this.options;
    const wish = { ...underlay, families: this.families, internalIps: source.internalIps() };
    try {
      return chooseUnderlay(host, wish);
    } catch (error) {
      if (this.current === undefined) throw error;
      const kept = chooseUnderlay(host, { ...wish, interfaces: [this.current.name], interfacePatterns: [] });
      if (this.limiter.allow('underlay') !== undefined)
        this.options.log.warn(
          { interface: kept.name, error: describeError(error) },
          'keeping the underlay interface',
        );
      return { ...kept, why: this.current.why };
    }
  }

  /** The IP the user set, else our address on the underlay. */
  private publicIps(underlay: Underlay): Address[] {
    const { publicIps } = this.options.underlay;
    return this.families.flatMap(
      (family) => publicIps.find((ip) => ip.family === family) ?? underlay.addresses.get(family.name) ?? [],
    );
  }

  /** The MACs other nodes know: of the last run, else of a device that stands (flanneld's), else new ones. */
  private vtepMacs(host: ListedHost): Map<Family['name'], string> {
    const { config, macs, source } = this.options;
    const result = new Map<Family['name'], string>();
    if (config.backend.type !== 'vxlan') return result;
    for (const family of this.families) {
      const name = vxlanName(family, config.backend.vni);
      const standing = host.links.find((link) => link.name === name && link.kind === 'vxlan');
      const mac = macs.get(name) ?? standing?.mac ?? source.publishedMac(family) ?? randomMac();
      if (macs.get(name) !== mac) macs.set(name, mac);
      result.set(family.name, mac);
    }
    return result;
  }

  private async ensureDevices(host: ListedHost, underlay: Underlay, own: Lease): Promise<void> {
    const { config, socket, macs, log } = this.options;
    this.ensureSysctls();
    const { backend } = config;
    if (backend.type !== 'vxlan') return;
    for (const { family, network } of config.families) {
      const subnet = leaseFamily(own, family)?.subnet;
      const mac = macs.get(vxlanName(family, backend.vni));
      if (subnet === undefined || mac === undefined) continue;
      const plan = planVxlan({ family, backend, underlay, mac, subnet, network });
      const { index, repairs } = await ensureVxlan(socket, plan, host, log);
      if (this.devices.has(family.name)) this.deviceRepairs += repairs.length;
      this.devices.set(family.name, index);
    }
  }

  private ensureSysctls(): void {
    const { log } = this.options;
    for (const family of this.families) {
      const name = family === ipv4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding';
      try {
        if (writeSysctl(name, '1')) log.info({ sysctl: name }, 'turned forwarding on');
      } catch (error) {
        if (this.limiter.allow(name) !== undefined)
          log.error({ error: describeError(error) }, 'cannot forward');
      }
    }
    const bridge = 'net/bridge/bridge-nf-call-iptables';
    if (readSysctl(bridge) === '0' && writeSysctl(bridge, '1'))
      log.info({ sysctl: bridge }, 'bridged packets pass iptables now, as Services need');
  }

  private paths(underlay: Underlay): FamilyPath[] {
    return this.families.map((family) => ({
      family,
      vxlan: this.devices.get(family.name),
      underlay: underlay.index,
      direct: underlay.direct.filter((network) => network.family === family),
    }));
  }

  /** Tells pods' side and the subnet file what holds now. */
  private publish(underlay: Underlay, own: Lease): void {
    const { config, subnetFile, masquerade, log } = this.options;
    const families = config.families.flatMap(({ family, network }) => {
      const subnet = leaseFamily(own, family)?.subnet;
      return subnet === undefined ? [] : [{ family, network, subnet }];
    });
    const mtu = podMtu(this.families, config.backend, underlay);
    if (writeFileAtomically(subnetFile, renderSubnetFile({ families, mtu, masquerade })))
      log.info({ file: subnetFile, lease: own.name, mtu }, 'wrote the subnet file');
    if (this.state.ready && this.wired === own && this.state.network.mtu === mtu) return;
    this.wired = own;
    this.setState({
      ready: true,
      network: {
        mtu,
        families: families.map(({ family, network, subnet }) => ({
          family,
          networks: [network],
          subnet,
          gateway: gatewayOf(subnet),
        })),
      },
    });
  }
}
