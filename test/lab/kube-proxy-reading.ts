/**
 * What becomes of the first packet of a connection on a node where kube-proxy (release 1.36) has written the rules: a
 * reading of its own, made from pkg/proxy/iptables/proxier.go (and nftables/proxier.go, where that differs), topology.go
 * and servicechangetracker.go, of Services and EndpointSlices as the API shows them. It shares no code with the proxy
 * that is tested against it.
 */
import { type Target, type Usable, usableEndpoints } from './kube-proxy-endpoints.ts';
import type { Ending, Packet } from './packet-walker.ts';

/** Parts of a Service as the API shows it. */
export interface ApiService {
  readonly spec: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly ports: readonly ApiPort[];
    readonly externalIPs?: readonly string[];
    readonly externalTrafficPolicy?: string;
    readonly internalTrafficPolicy?: string;
    readonly loadBalancerSourceRanges?: readonly string[];
    readonly healthCheckNodePort?: number;
  };
  readonly status: {
    readonly loadBalancer?: { readonly ingress?: readonly { ip: string; ipMode?: string }[] };
  };
}

interface ApiPort {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: string;
  readonly nodePort?: number;
}

/** A Service and its slices, as the API shows them. */
export interface ApiState {
  readonly service: ApiService;
  readonly slices: readonly Parameters<typeof usableEndpoints>[0][number][];
}

/** The node, and how kube-proxy was started there. */
export interface NodeSetting {
  readonly name: string;
  readonly zone?: string;
  /** The one address that its Node names. */
  readonly address: string;
  /** All its addresses. */
  readonly local: ReadonlySet<string>;
  /** Tells packets from pods; undefined where there is no way to. */
  readonly isPod: ((address: string) => boolean) | undefined;
  /** iptables unless given. */
  readonly mode?: 'iptables' | 'nftables';
  readonly masqueradeAll?: boolean;
  readonly localhostNodePorts?: boolean;
  /** Where node ports answer; undefined for everywhere. */
  readonly nodePortAddresses?: readonly string[];
  /** The policy of FORWARD; ACCEPT unless given. */
  readonly forwards?: 'ACCEPT' | 'DROP';
  readonly contains: (network: string, address: string) => boolean;
}

/** One port of a Service, with what kube-proxy works out before it writes rules. */
interface Port {
  readonly service: ApiService;
  readonly port: ApiPort;
  readonly endpoints: Usable;
  readonly vips: readonly string[];
  readonly ranges: readonly string[];
  readonly internalLocal: boolean;
  readonly externalLocal: boolean;
}

/** A way that a packet may take. */
interface Way {
  readonly to: string;
  readonly port: number;
  readonly marked: boolean;
  readonly translated: boolean;
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1';

function portsOf({ service, slices }: ApiState, node: NodeSetting): Port[] {
  const { spec } = service;
  if (spec.type === 'ExternalName' || spec.clusterIP === undefined || spec.clusterIP === 'None') return [];
  // Of whatever type it is.
  const ingress = service.status.loadBalancer?.ingress ?? [];
  const ranges = spec.loadBalancerSourceRanges ?? [];
  return spec.ports.map((port) => ({
    service,
    port,
    endpoints: usableEndpoints(slices, port, node),
    vips: ingress.filter(({ ipMode }) => (ipMode ?? 'VIP') === 'VIP').map(({ ip }) => ip),
    // One that holds everybody is as if there were none.
    ranges: ranges.some((range) => range.endsWith('/0')) ? [] : ranges,
    internalLocal: spec.internalTrafficPolicy === 'Local',
    externalLocal: spec.externalTrafficPolicy === 'Local',
  }));
}

const protocolOf = ({ port }: Port): string => (port.protocol ?? 'TCP').toLowerCase();
const restricted = ({ vips, ranges }: Port): boolean => vips.length > 0 && ranges.length > 0;
const firewalled = (port: Port): boolean => port.endpoints.any && restricted(port);
const externallyServed = ({ externalLocal, endpoints }: Port): boolean =>
  externalLocal ? endpoints.local.length > 0 : endpoints.any;

class Reading {
  private readonly node: NodeSetting;
  private readonly packet: Packet;
  private readonly ports: readonly Port[];

  constructor(states: readonly ApiState[], node: NodeSetting, packet: Packet) {
    this.node = node;
    this.packet = packet;
    this.ports = states
      .flatMap((state) => portsOf(state, node))
      .filter((port) => protocolOf(port) === packet.protocol);
  }

  endings(): Ending[] {
    if (this.isTurnedAway()) return ['dropped'];
    return [...new Set(this.translated().map((way) => this.ending(way)))].sort();
  }

  /** Table nat: KUBE-SERVICES, and its tail call to KUBE-NODEPORTS. */
  private translated(): Way[] {
    const { packet } = this;
    let marked = false;
    const addresses = this.ports.flatMap((port) => [this.toClusterIP(port), this.toExternalAddress(port)]);
    for (const way of [...addresses, ...this.ports.map((port) => this.toNodePort(port))]) {
      if (way === undefined) continue;
      marked ||= way.marked;
      if (way.to.length > 0) return way.to.map((target) => this.sent(target, marked));
    }
    return [{ to: packet.destination, port: packet.port, marked, translated: false }];
  }

  /** KUBE-SEP-…: who is sent to itself is marked; mode nftables knows of endpoints that are here (hairpin-connections). */
  private sent({ ip, port, here }: Target, marked: boolean): Way {
    const isItself = ip === this.packet.source && (here || this.node.mode !== 'nftables');
    return { to: ip, port, marked: marked || isItself, translated: true };
  }

  private toClusterIP(port: Port) {
    const { packet, node } = this;
    if (packet.destination !== port.service.spec.clusterIP || packet.port !== port.port.port)
      return undefined;
    const { endpoints } = port;
    const to = port.internalLocal ? endpoints.local : endpoints.cluster;
    const stranger = node.isPod !== undefined && !node.isPod(packet.source);
    return { to, marked: to.length > 0 && (node.masqueradeAll === true || stranger) };
  }

  private toExternalAddress(port: Port) {
    const { packet } = this;
    if (packet.port !== port.port.port || !port.endpoints.any) return undefined;
    const isExternal = port.service.spec.externalIPs?.includes(packet.destination) === true;
    // In mode iptables its rule comes before the load balancer's.
    if (isExternal && (this.node.mode !== 'nftables' || !port.vips.includes(packet.destination)))
      return this.external(port);
    if (!port.vips.includes(packet.destination)) return undefined;
    if (!firewalled(port)) return this.external(port);
    return this.isLetIn(port) ? this.external(port) : undefined;
  }

  /** KUBE-FW-… */
  private isLetIn({ ranges, vips }: Port): boolean {
    const { node, packet } = this;
    const includesNode = ranges.some((range) => node.contains(range, node.address));
    return (
      ranges.some((range) => node.contains(range, packet.source)) ||
      (includesNode && vips.includes(packet.source))
    );
  }

  private toNodePort(port: Port) {
    const { packet, node } = this;
    const { nodePort = 0 } = port.port;
    if (nodePort === 0 || packet.port !== nodePort || !port.endpoints.any) return undefined;
    if (!node.local.has(packet.destination)) return undefined;
    if (node.nodePortAddresses?.includes(packet.destination) === false) return undefined;
    if (isLoopback(packet.destination) && node.localhostNodePorts !== true) return undefined;
    return this.external(port);
  }

  /** KUBE-EXT-… */
  private external(port: Port) {
    const { packet, node } = this;
    const { cluster, local } = port.endpoints;
    if (!port.externalLocal) return { to: cluster, marked: true };
    if (node.isPod?.(packet.source)) return { to: cluster, marked: false };
    if (node.local.has(packet.source)) return { to: cluster, marked: true };
    return { to: local, marked: false };
  }

  /** Tables filter and nat, after routing. */
  private ending(way: Way): Ending {
    const { packet, node } = this;
    const isLocal = node.local.has(way.to);
    const verdicts = [
      ...(packet.fromNode ? [this.output(way)] : []),
      ...(isLocal ? [this.input(way)] : packet.fromNode ? [] : [this.forward(way)]),
    ];
    const refused = verdicts.find((verdict) => verdict !== undefined);
    return refused ?? `${way.to}:${way.port}${way.marked ? ' masqueraded' : ''}`;
  }

  private output(way: Way): Ending | undefined {
    const early = this.antiMartian(way) ?? this.firewall(way) ?? this.services(way);
    if (early !== undefined || this.node.mode !== 'nftables') return early;
    // One chain for all addresses of Services, in every hook.
    return this.externalAddresses(way) ?? this.unservedPort(way);
  }

  private input(way: Way): Ending | undefined {
    const early = this.antiMartian(way) ?? this.firewall(way);
    if (this.node.mode === 'nftables') return this.services(way) ?? this.externalServices(way);
    const checked = this.ports.some((port) => this.isHealthCheck(port, way));
    return early ?? (checked ? undefined : this.externalServices(way));
  }

  private forward(way: Way): Ending | undefined {
    if (this.node.mode === 'nftables')
      return this.services(way) ?? this.externalAddresses(way) ?? this.unservedPort(way);
    const dropped = this.firewall(way);
    if (dropped !== undefined || way.marked) return dropped;
    const refused = this.services(way) ?? this.externalServices(way);
    return refused ?? (this.node.forwards === 'DROP' ? 'dropped' : undefined);
  }

  /** KUBE-FIREWALL, which is the kubelet's, too. */
  private antiMartian({ to, translated }: Way): Ending | undefined {
    const { node, packet } = this;
    if (node.localhostNodePorts !== true || translated) return undefined;
    return to.startsWith('127.') && !packet.source.startsWith('127.') ? 'dropped' : undefined;
  }

  /** firewall-check of mode nftables, which comes before translation, and asks for no endpoint. */
  private isTurnedAway(): boolean {
    const { packet, node } = this;
    return (
      node.mode === 'nftables' &&
      this.ports.some(
        (port) =>
          restricted(port) &&
          port.vips.includes(packet.destination) &&
          port.port.port === packet.port &&
          !this.isLetIn(port),
      )
    );
  }

  /** KUBE-PROXY-FIREWALL: by the address that the packet has by now. */
  private firewall(way: Way): Ending | undefined {
    if (this.node.mode === 'nftables') return undefined;
    const hit = this.ports.some(
      (port) => firewalled(port) && port.vips.includes(way.to) && port.port.port === way.port,
    );
    return hit ? 'dropped' : undefined;
  }

  private isHealthCheck({ service: { spec } }: Port, way: Way): boolean {
    if (spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local') return false;
    return this.packet.protocol === 'tcp' && spec.healthCheckNodePort === way.port;
  }

  /** KUBE-SERVICES of table filter. */
  private services(way: Way): Ending | undefined {
    for (const { service, port, endpoints, internalLocal } of this.ports) {
      const served = internalLocal ? endpoints.local.length > 0 : endpoints.any;
      if (!served && way.to === service.spec.clusterIP && way.port === port.port)
        return endpoints.any ? 'dropped' : 'rejected';
    }
    return undefined;
  }

  /** KUBE-EXTERNAL-SERVICES */
  private externalServices(way: Way): Ending | undefined {
    const { node } = this;
    const serves = node.mode === 'nftables' ? node.nodePortAddresses : undefined;
    const atNode = this.ports.find(
      (one) =>
        !externallyServed(one) &&
        one.port.nodePort === way.port &&
        way.port !== 0 &&
        (serves?.includes(way.to) ?? node.local.has(way.to)),
    );
    return this.externalAddresses(way) ?? (atNode && (atNode.endpoints.any ? 'dropped' : 'rejected'));
  }

  private externalAddresses(way: Way): Ending | undefined {
    const found = this.ports.find(
      (one) =>
        !externallyServed(one) &&
        [...(one.service.spec.externalIPs ?? []), ...one.vips].includes(way.to) &&
        way.port === one.port.port,
    );
    return found && (found.endpoints.any ? 'dropped' : 'rejected');
  }

  /** cluster-ips-check of mode nftables. */
  private unservedPort(way: Way): Ending | undefined {
    return this.ports.some(({ service }) => service.spec.clusterIP === way.to) ? 'rejected' : undefined;
  }
}

/** All the places where the packet may end, sorted, as the packet walker says them. */
export function kubeProxyEndings(states: readonly ApiState[], node: NodeSetting, packet: Packet): Ending[] {
  return new Reading(states, node, packet).endings();
}
