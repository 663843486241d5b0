/**
 * Services and EndpointSlices as plain values: only the fields a service proxy needs, validated, addresses canonical.
 * Meaning of the fields: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/
 */
import type { Family } from '../../model/address.ts';
import type { Protocol } from '../../model/flow.ts';

export interface ServicePort {
  /** Empty for the only port of a Service that names none. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0 for none. */
  readonly nodePort: number;
}

export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** Empty for headless and ExternalName Services; one or two (dual stack) canonical addresses otherwise. */
  readonly clusterIPs: readonly string[];
  readonly ports: readonly ServicePort[];
  readonly externalIPs: readonly string[];
  /** Load balancer addresses whose traffic arrives with the address as destination (`ipMode: VIP`). */
  readonly loadBalancerIPs: readonly string[];
  /** Canonical CIDRs of both families; empty means everyone. */
  readonly sourceRanges: readonly string[];
  /** Seconds of `sessionAffinity: ClientIP`; 0 for none. */
  readonly affinitySeconds: number;
  readonly externalLocal: boolean;
  readonly internalLocal: boolean;
  /** 0 for none. */
  readonly healthCheckNodePort: number;
}

export interface Endpoint {
  /** Canonical text. */
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName: string | undefined;
  readonly zoneHints: readonly string[] | undefined;
  readonly nodeHints: readonly string[] | undefined;
}

export interface EndpointPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Name of the Service (same namespace) the slice belongs to. */
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
  /** When the endpoints last changed (annotation of the EndpointSlice controller), milliseconds since the epoch. */
  readonly changedAt: number | undefined;
}

/** What a proxy wants to know of the node it runs on. */
export interface NodeFacts {
  /** Its label `topology.kubernetes.io/zone`. */
  readonly zone: string | undefined;
  /** Its primary addresses, canonical: at most one of each family. */
  readonly addresses: readonly string[];
  /** The pod networks of this node alone, canonical; empty while it has none. */
  readonly podCIDRs: readonly string[];
  /** It is being deleted, or will be soon: load balancers should send it nothing new. */
  readonly leaving: boolean;
}

/** `namespace/name` */
export function objectKey(object: { readonly namespace: string; readonly name: string }): string {
  return `${object.namespace}/${object.name}`;
}

/** `namespace/name:port` as kube-proxy writes it in comments and hashes it into chain names. */
export function servicePortName(service: string, portName: string): string {
  return portName === '' ? service : `${service}:${portName}`;
}
