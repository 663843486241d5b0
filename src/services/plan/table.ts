/**
 * From the tracker's state of one Service to the ports a renderer makes rules of: which endpoints traffic of each
 * policy may use on this node.
 * Follows kube-proxy's pkg/proxy/topology.go (topology hints, KEP-1669 terminating endpoints) and endpointslicecache.go.
 */
import { type Family, families, ipv4 } from '../../model/address.ts';
import type { Protocol } from '../../model/flow.ts';
import {
  type Endpoint,
  type EndpointSlice,
  objectKey,
  type Service,
  type ServicePort,
  servicePortName,
} from './service.ts';
import type { ServiceState } from './tracker.ts';

/** The node the table is made for. */
export interface NodeView {
  readonly name: string;
  /** Value of the node's label `topology.kubernetes.io/zone`. */
  readonly zone?: string | undefined;
}

/** An address and port traffic may be sent to. */
export interface Backend {
  readonly address: string;
  readonly port: number;
  /** It runs on this node. */
  readonly local: boolean;
  /** Nothing says where it runs: it may be on this node. */
  readonly placeless?: true;
}

/** One port of one Service in one family, with everything a renderer needs. */
export interface ServicePortEntry {
  /** `namespace/name` */
  readonly service: string;
  /** `namespace/name:port` */
  readonly name: string;
  readonly protocol: Protocol;
  readonly clusterIP: string;
  readonly port: number;
  readonly nodePort: number;
  readonly externalIPs: readonly string[];
  readonly loadBalancerIPs: readonly string[];
  readonly sourceRanges: readonly string[];
  readonly affinitySeconds: number;
  readonly externalLocal: boolean;
  readonly internalLocal: boolean;
  readonly healthCheckNodePort: number;
  /** Usable for traffic with policy Cluster, sorted; empty when no traffic has that policy. */
  readonly clusterBackends: readonly Backend[];
  /** Usable for traffic with policy Local, sorted; empty when no traffic has that policy. */
  readonly localBackends: readonly Backend[];
  /** `address|port` of all endpoints that still serve, usable for new flows or not; empty for TCP, which needs it not. */
  readonly serving: readonly string[];
  /** Some node could serve this port, though perhaps not this one. */
  readonly hasEndpoints: boolean;
}

interface Candidate extends Backend {
  readonly endpoint: Endpoint;
  readonly key: string;
}

function rank(endpoint: Endpoint): number {
  return endpoint.ready ? 2 : endpoint.serving && endpoint.terminating ? 1 : 0;
}

/**
 * Of several endpoints at one address and port (a pod that ends, and the one that has got its address) the one that does
 * not end counts, whether it is ready or not, with its node and hints: never the state of one with the node of another.
 */
function comesBefore(one: Endpoint, other: Endpoint, node: NodeView): boolean {
  const order = (endpoint: Endpoint): readonly boolean[] => [
    !endpoint.terminating,
    endpoint.ready,
    endpoint.serving,
    endpoint.nodeName === node.name,
  ];
  const [a, b] = [order(one), order(other)];
  const first = a.findIndex((value, index) => value !== b[index]);
  return first >= 0 && a[first]!;
}

/** Endpoints that listen at one port. */
interface Target {
  readonly port: number;
  readonly endpoints: readonly Endpoint[];
}

/** By name and protocol of a Service's port. */
type Targets = ReadonlyMap<string, readonly Target[]>;

const portKey = ({ name, protocol }: Pick<ServicePort, 'name' | 'protocol'>): string => `${name}/${protocol}`;

/** What the slices of a family offer. A Service may have thousands of ports: none looks at those of all others. */
function targetsOf(slices: readonly EndpointSlice[], family: Family): Targets {
  const targets = new Map<string, Target[]>();
  for (const { family: own, ports, endpoints } of slices) {
    if (own !== family) continue;
    for (const offered of ports) {
      const target = { port: offered.port, endpoints };
      const known = targets.get(portKey(offered));
      if (known === undefined) targets.set(portKey(offered), [target]);
      else known.push(target);
    }
  }
  return targets;
}

/** The endpoints behind one port of a Service, each address once, sorted. */
function candidates(
  targets: Targets,
  servicePort: Pick<ServicePort, 'name' | 'protocol'>,
  node: NodeView,
): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const { port, endpoints } of targets.get(portKey(servicePort)) ?? []) {
    for (const endpoint of endpoints) {
      const { address } = endpoint;
      const key = `${address}|${port}`;
      const old = found.get(key);
      if (old !== undefined && !comesBefore(endpoint, old.endpoint, node)) continue;
      found.set(key, { address, port, local: endpoint.nodeName === node.name, endpoint, key });
    }
  }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

type Topology = (endpoint: Endpoint) => boolean;

/** Hints count only if every ready endpoint carries them and one names us (kube-proxy's topologyModeFromHints). */
function topology(ready: readonly Candidate[], node: NodeView): Topology {
  const modes = [
    { hints: (endpoint: Endpoint) => endpoint.nodeHints, wanted: node.name },
    { hints: (endpoint: Endpoint) => endpoint.zoneHints, wanted: node.zone },
  ];
  for (const { hints, wanted } of modes) {
    if (wanted === undefined || ready.length === 0) continue;
    const usable = (endpoint: Endpoint): boolean => hints(endpoint)?.includes(wanted) === true;
    const complete = ready.every((candidate) => hints(candidate.endpoint) !== undefined);
    if (complete && ready.some((candidate) => usable(candidate.endpoint))) return usable;
  }
  return () => true;
}

interface Choice {
  readonly clusterBackends: readonly Backend[];
  readonly localBackends: readonly Backend[];
  readonly hasEndpoints: boolean;
}

function backends(from: readonly Candidate[]): Backend[] {
  return from.map(({ address, port, local, endpoint }) =>
    endpoint.nodeName === undefined ? { address, port, local, placeless: true } : { address, port, local },
  );
}

function choose(
  all: readonly Candidate[],
  node: NodeView,
  uses: { cluster: boolean; local: boolean },
): Choice {
  const ready = all.filter(({ endpoint }) => endpoint.ready);
  const terminating = all.filter(({ endpoint }) => rank(endpoint) === 1);
  let cluster: readonly Candidate[] = [];
  let local: readonly Candidate[] = [];
  if (uses.cluster) {
    const inReach = topology(ready, node);
    cluster = ready.length > 0 ? ready.filter(({ endpoint }) => inReach(endpoint)) : terminating;
  }
  if (uses.local) {
    local = ready.filter((candidate) => candidate.local);
    if (local.length === 0) local = terminating.filter((candidate) => candidate.local);
  }
  return {
    clusterBackends: backends(cluster),
    localBackends: backends(local),
    hasEndpoints: ready.length > 0 || terminating.length > 0,
  };
}

const noAddresses: readonly string[] = [];

function ofFamily(family: Family, addresses: readonly string[]): readonly string[] {
  if (addresses.length === 0) return noAddresses;
  return addresses.filter((text) => text.includes(':') === (family !== ipv4));
}

/** A range that holds everybody means no firewall at all: there is nothing to drop then. */
function restricting(ranges: readonly string[]): readonly string[] {
  return ranges.some((range) => range.endsWith('/0')) ? [] : ranges;
}

function portEntry(
  state: { service: Service; targets: Targets },
  port: ServicePort,
  clusterIP: string,
  place: { family: Family; node: NodeView },
): ServicePortEntry {
  const { service } = state;
  const { family, node } = place;
  const externalIPs = ofFamily(family, service.externalIPs);
  const loadBalancerIPs = ofFamily(family, service.loadBalancerIPs);
  const external = isExternal({ nodePort: port.nodePort, externalIPs, loadBalancerIPs });
  const uses = {
    // External traffic from this cluster is served with policy Cluster even where outside traffic is Local.
    cluster: !service.internalLocal || external,
    local: service.internalLocal || (service.externalLocal && external),
  };
  const key = objectKey(service);
  const all = candidates(state.targets, port, node);
  return {
    service: key,
    name: servicePortName(key, port.name),
    protocol: port.protocol,
    clusterIP,
    port: port.port,
    nodePort: port.nodePort,
    externalIPs,
    loadBalancerIPs,
    sourceRanges: restricting(ofFamily(family, service.sourceRanges)),
    affinitySeconds: service.affinitySeconds,
    externalLocal: service.externalLocal,
    internalLocal: service.internalLocal,
    healthCheckNodePort: service.healthCheckNodePort,
    serving:
      port.protocol === 'TCP' ? [] : all.filter(({ endpoint }) => endpoint.serving).map((one) => one.key),
    ...choose(all, node, uses),
  };
}

/** True when the port is reachable from outside the cluster. */
export function isExternal(
  entry: Pick<ServicePortEntry, 'nodePort' | 'externalIPs' | 'loadBalancerIPs'>,
): boolean {
  return entry.nodePort !== 0 || entry.externalIPs.length > 0 || entry.loadBalancerIPs.length > 0;
}

/**
 * Ready endpoints of a Service on this node, counted by address, for each family that the Service has: what a load
 * balancer's health check asks for. Only those count that serve a port of the Service.
 */
export function localReadyCounts(
  { service, slices }: ServiceState,
  node: NodeView,
): ReadonlyMap<Family, number> {
  const counts = new Map<Family, number>();
  for (const family of families) {
    if (service === undefined || ofFamily(family, service.clusterIPs).length === 0) continue;
    const targets = targetsOf(slices, family);
    const here = service.ports
      .flatMap((port) => candidates(targets, port, node))
      .filter(({ endpoint, local }) => endpoint.ready && local);
    counts.set(family, new Set(here.map(({ address }) => address)).size);
  }
  return counts;
}

/** The rules' raw material for one Service in one family; empty for headless, ExternalName and unknown Services. */
export function serviceEntries(state: ServiceState, family: Family, node: NodeView): ServicePortEntry[] {
  const { service, slices } = state;
  if (service === undefined) return [];
  const clusterIP = ofFamily(family, service.clusterIPs)[0];
  if (clusterIP === undefined) return [];
  const targets = targetsOf(slices, family);
  const seen = new Set<string>();
  return service.ports
    .filter((port) => {
      const key = portKey(port);
      return !seen.has(key) && seen.add(key) !== undefined;
    })
    .map((port) => portEntry({ service, targets }, port, clusterIP, { family, node }));
}
