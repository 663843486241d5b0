import type { Service, ServicePort } from './service.ts';
import type { NodeView } from './table.ts';
import type { ServiceState } from './tracker.ts';

/** A Service as a list shows it. */
export interface ServiceRow {
  /** `namespace/name` */
  readonly name: string;
  /** As far as the rules know: what has no cluster address is `Headless`, an ExternalName too. */
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'Headless';
  readonly clusterIPs: readonly string[];
  readonly externalIPs: readonly string[];
  readonly loadBalancerIPs: readonly string[];
  readonly ports: readonly ServicePort[];
  /** Addresses behind it, each counted once. */
  readonly endpoints: {
    readonly ready: number;
    /** Of the ready ones, those on this node. */
    readonly local: number;
    readonly terminating: number;
    readonly notReady: number;
  };
  readonly internalPolicy: 'Cluster' | 'Local';
  readonly externalPolicy: 'Cluster' | 'Local';
  /** Seconds of ClientIP affinity; 0 for none. */
  readonly affinitySeconds: number;
  readonly sourceRanges: readonly string[];
  readonly healthCheckNodePort: number;
  /** What keeps traffic from it, in words; undefined where nothing does that is known. */
  readonly trouble: string | undefined;
}

function typeOf({ clusterIPs, loadBalancerIPs, ports }: Service): ServiceRow['type'] {
  if (clusterIPs.length === 0) return 'Headless';
  if (loadBalancerIPs.length > 0) return 'LoadBalancer';
  return ports.some(({ nodePort }) => nodePort !== 0) ? 'NodePort' : 'ClusterIP';
}

function countEndpoints({ slices }: ServiceState, node: NodeView): ServiceRow['endpoints'] {
  const best = new Map<string, { rank: number; local: boolean }>();
  for (const { endpoints } of slices)
    for (const { address, ready, serving, terminating, nodeName } of endpoints) {
      const rank = ready ? 2 : terminating && serving ? 1 : 0;
      const known = best.get(address);
      if (known === undefined || known.rank < rank)
        best.set(address, { rank, local: nodeName === node.name });
    }
  const all = [...best.values()];
  const count = (wanted: number): number => all.filter(({ rank }) => rank === wanted).length;
  return {
    ready: count(2),
    local: all.filter(({ rank, local }) => rank === 2 && local).length,
    terminating: count(1),
    notReady: count(0),
  };
}

function troubleOf(service: Service, { ready, local, terminating, notReady }: ServiceRow['endpoints']) {
  if (service.clusterIPs.length === 0) return undefined;
  if (ready === 0 && terminating > 0) return 'all its endpoints are terminating';
  if (ready === 0) return notReady > 0 ? `none of its ${notReady} endpoints is ready` : 'it has no endpoints';
  if (local > 0) return undefined;
  if (service.internalLocal) return 'policy Local, and no ready endpoint on this node';
  const external =
    service.externalIPs.length + service.loadBalancerIPs.length > 0 ||
    service.ports.some(({ nodePort }) => nodePort !== 0);
  return service.externalLocal && external
    ? 'externalTrafficPolicy Local, and no ready endpoint on this node: what comes from outside is dropped here'
    : undefined;
}

/** @param refused why the kernel has no rules of it */
export function serviceRow(
  name: string,
  state: ServiceState,
  node: NodeView,
  refused?: string,
): ServiceRow | undefined {
  const { service } = state;
  if (service === undefined) return undefined;
  const endpoints = countEndpoints(state, node);
  return {
    name,
    type: typeOf(service),
    clusterIPs: service.clusterIPs,
    externalIPs: service.externalIPs,
    loadBalancerIPs: service.loadBalancerIPs,
    ports: service.ports,
    endpoints,
    internalPolicy: service.internalLocal ? 'Local' : 'Cluster',
    externalPolicy: service.externalLocal ? 'Local' : 'Cluster',
    affinitySeconds: service.affinitySeconds,
    sourceRanges: service.sourceRanges,
    healthCheckNodePort: service.healthCheckNodePort,
    trouble:
      refused === undefined ? troubleOf(service, endpoints) : `the kernel refuses its rules: ${refused}`,
  };
}
