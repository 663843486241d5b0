/**
 * Kubernetes objects (parsed JSON or YAML, not trusted) to values. Nothing that fails a check here reaches a rule: an
 * object that cannot be used at all is an error, a part that cannot be used is left out and named in `problems`.
 */
import { type Family, families } from '../../model/address.ts';
import {
  address,
  canonical,
  cidr,
  collect,
  fail,
  type Json,
  label,
  list,
  object,
  optionalPort,
  portName,
  portNumber,
  protocol,
  subdomain,
} from '../../model/untrusted.ts';
import type { Endpoint, EndpointPort, EndpointSlice, Service, ServicePort } from './service.ts';
import { specialAddress } from './special-address.ts';

export interface Parsed<T> {
  readonly value: T;
  /** What was left out and why, each naming its field. */
  readonly problems: readonly string[];
}

/** kube-proxy's default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours. */
const DEFAULT_AFFINITY_SECONDS = 10_800;

function metadataName(raw: Json, field: 'namespace' | 'name', pattern: RegExp): string {
  const value = object(raw.metadata)[field] ?? (field === 'namespace' ? 'default' : undefined);
  if (typeof value !== 'string' || !pattern.test(value))
    fail(`metadata.${field}`, 'is not a valid name', value);
  return value;
}

/** A label that says an object is not for us, as kube-proxy asks for them: it means nothing on the other kind. */
export const foreignLabel = {
  /** Another proxy's. */
  service: 'service.kubernetes.io/service-proxy-name',
  /** Of a headless Service. */
  slice: 'service.kubernetes.io/headless',
} as const;

export function isForAnotherProxy(raw: unknown, kind: keyof typeof foreignLabel): boolean {
  return foreignLabel[kind] in object(object(object(raw).metadata).labels);
}

/** An address that packets can be sent to. */
function usable(value: unknown, field: string): string {
  const text = address(value, field);
  const special = specialAddress(text);
  return special === undefined ? text : fail(field, special, text);
}

function clusterIPs(spec: Json, problems: string[]): string[] {
  if (spec.type === 'ExternalName') return [];
  const many = list(spec.clusterIPs);
  const all = (many.length > 0 ? many : [spec.clusterIP]).filter(
    (value) => value !== undefined && value !== null && value !== '' && value !== 'None',
  );
  return collect(all, 'spec.clusterIPs', problems, usable).filter(
    (text, index, texts) => texts.findIndex((other) => other.includes(':') === text.includes(':')) === index,
  );
}

function servicePort(raw: unknown, field: string): ServicePort {
  const port = object(raw);
  return {
    name: portName(port.name, `${field}.name`),
    protocol: protocol(port.protocol, `${field}.protocol`),
    port: portNumber(port.port, `${field}.port`),
    nodePort: optionalPort(port.nodePort, `${field}.nodePort`),
  };
}

function loadBalancerIPs(raw: Json, problems: string[]): string[] {
  const ingress = list(object(object(raw.status).loadBalancer).ingress)
    .map(object)
    .filter(({ ip, ipMode }) => (ip ?? '') !== '' && (ipMode ?? 'VIP') === 'VIP');
  return collect(
    ingress.map((entry) => entry.ip),
    'status.loadBalancer.ingress',
    problems,
    usable,
  );
}

function affinitySeconds(spec: Json): number {
  if (spec.sessionAffinity !== 'ClientIP') return 0;
  const seconds = object(object(spec.sessionAffinityConfig).clientIP).timeoutSeconds;
  if (seconds === undefined || seconds === null) return DEFAULT_AFFINITY_SECONDS;
  if (typeof seconds !== 'number' || !Number.isInteger(seconds) || seconds < 1 || seconds > 86_400) {
    fail('spec.sessionAffinityConfig.clientIP.timeoutSeconds', 'is not between 1 and 86400', seconds);
  }
  return seconds;
}

/**
 * Who may use the load balancer's addresses. An entry that cannot be read stands for nobody: leaving it out of a list would
 * let everybody in once the list is empty, so then there is no list, and no such address either.
 */
function sourceRanges(spec: Json, problems: string[]): string[] | undefined {
  const given = list(spec.loadBalancerSourceRanges);
  const ranges = collect(given, 'spec.loadBalancerSourceRanges', problems, cidr);
  return given.length > 0 && ranges.length === 0 ? undefined : ranges;
}

/** @throws TwillError `invalid` naming the field when the Service cannot be used at all */
export function parseService(input: unknown): Parsed<Service> {
  const raw = object(input);
  const spec = object(raw.spec);
  const problems: string[] = [];
  const ranges = sourceRanges(spec, problems);
  const ports = collect(list(spec.ports), 'spec.ports', problems, servicePort);
  const isChecked =
    ports.length > 0 && spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
  const value: Service = {
    namespace: metadataName(raw, 'namespace', label),
    name: metadataName(raw, 'name', label),
    clusterIPs: clusterIPs(spec, problems),
    ports,
    externalIPs: collect(list(spec.externalIPs), 'spec.externalIPs', problems, usable),
    // Whatever the type is, as with kube-proxy: the API server sees to it that others have none.
    loadBalancerIPs: ranges === undefined ? [] : loadBalancerIPs(raw, problems),
    sourceRanges: ranges ?? [],
    affinitySeconds: affinitySeconds(spec),
    externalLocal: spec.externalTrafficPolicy === 'Local',
    internalLocal: spec.internalTrafficPolicy === 'Local',
    healthCheckNodePort: isChecked ? optionalPort(spec.healthCheckNodePort, 'spec.healthCheckNodePort') : 0,
  };
  return { value, problems };
}

function hints(value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const names = list(value)
    .map((entry) => object(entry).name)
    .filter((name): name is string => typeof name === 'string');
  return names.length > 0 ? names : undefined;
}

function endpoint(raw: unknown, field: string, family: Family): Endpoint {
  const entry = object(raw);
  const parsed = canonical(list(entry.addresses)[0], `${field}.addresses[0]`);
  if (parsed.family !== family)
    fail(`${field}.addresses[0]`, `is not an ${family.kubeName} address`, parsed.text);
  const special = specialAddress(parsed.text);
  if (special !== undefined) fail(`${field}.addresses[0]`, special, parsed.text);
  const conditions = object(entry.conditions);
  const hinted = object(entry.hints);
  return {
    address: parsed.text,
    ready: conditions.ready !== false,
    serving: conditions.serving !== false,
    terminating: conditions.terminating === true,
    nodeName: typeof entry.nodeName === 'string' ? entry.nodeName : undefined,
    zoneHints: hints(hinted.forZones),
    nodeHints: hints(hinted.forNodes),
  };
}

function endpointPort(raw: unknown, field: string): EndpointPort {
  const port = object(raw);
  return {
    name: portName(port.name, `${field}.name`),
    protocol: protocol(port.protocol, `${field}.protocol`),
    port: portNumber(port.port, `${field}.port`),
  };
}

function changedAt(raw: Json): number | undefined {
  const text = object(object(raw.metadata).annotations)['endpoints.kubernetes.io/last-change-trigger-time'];
  const time = typeof text === 'string' && text.length < 64 ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

/**
 * @returns undefined for a slice of names (`addressType: FQDN`), which no proxy serves
 * @throws TwillError `invalid` naming the field when the slice cannot be used at all
 */
export function parseEndpointSlice(input: unknown): Parsed<EndpointSlice> | undefined {
  const raw = object(input);
  if (raw.addressType === 'FQDN') return undefined;
  const family = families.find((candidate) => candidate.kubeName === raw.addressType);
  if (family === undefined) fail('addressType', 'is not IPv4, IPv6 or FQDN', raw.addressType);
  const service = object(object(raw.metadata).labels)['kubernetes.io/service-name'];
  if (typeof service !== 'string' || !label.test(service)) {
    fail('metadata.labels[kubernetes.io/service-name]', 'is not the name of a Service', service);
  }
  const problems: string[] = [];
  // A port without a number means "every port", which is for consumers other than a proxy.
  const ports = list(raw.ports).filter((port) => (object(port).port ?? null) !== null);
  const value: EndpointSlice = {
    namespace: metadataName(raw, 'namespace', label),
    name: metadataName(raw, 'name', subdomain),
    service,
    family,
    ports: collect(ports, 'ports', problems, endpointPort),
    endpoints: collect(list(raw.endpoints), 'endpoints', problems, (entry, field) =>
      endpoint(entry, field, family),
    ),
    changedAt: changedAt(raw),
  };
  return { value, problems };
}
