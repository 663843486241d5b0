/**
 * Random Services of two families with all that makes a difference to where packets go, on the node of `service-world.ts`.
 * Left out is what kube-proxy leaves to chance: one address and port that two Services claim, and two endpoints at one
 * address neither of which ends.
 */
import type { ApiState } from './kube-proxy-reading.ts';
import type { Packet } from './packet-walker.ts';
import { seeded } from './random.ts';
import { type EndpointSpec, serviceObject, sliceObject } from './service-fixtures.ts';
import { addressesOf } from './service-world.ts';

type Version = 'ipv4' | 'ipv6';
type Json = Record<string, unknown>;
type Random = (below: number) => number;

interface Port {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly nodePort?: number;
}

/** A Service and its slices, by family. */
export interface RandomService {
  readonly service: Json & { readonly spec: Json; readonly status: Json };
  readonly slices: Readonly<Record<Version, readonly Json[]>>;
  readonly ports: readonly Port[];
  /** Its own addresses and those that it claims, by family; the cluster address first. */
  readonly addresses: Readonly<Record<Version, readonly string[]>>;
  readonly healthCheckNodePort: number;
}

const versions: readonly Version[] = ['ipv4', 'ipv6'];
const pick = <T>(random: Random, ...from: readonly T[]): T => from[random(from.length)]!;

const clusterAddress = (version: Version, index: number): string =>
  version === 'ipv4' ? `10.96.0.${index}` : `fd00:96::${index.toString(16)}`;
const externalAddress = (version: Version, index: number): string =>
  version === 'ipv4' ? `198.18.0.${index}` : `2001:db8:3::${index.toString(16)}`;
const balancerAddress = (version: Version, index: number): string =>
  version === 'ipv4' ? `198.19.0.${index}` : `2001:db8:9::${index.toString(16)}`;

/** Every eighth load balancer's address is one of the node. */
export function balancersHere(count: number): string[] {
  const here = Array.from({ length: count }, (_, index) => index + 1).filter((index) => index % 8 === 0);
  return here.flatMap((index) => versions.map((version) => balancerAddress(version, index)));
}

const conditions: readonly Omit<EndpointSpec, 'ip'>[] = [
  {},
  { ready: true, serving: true, terminating: false },
  { ready: true },
  { ready: false, serving: true, terminating: true },
  { ready: false, serving: false, terminating: false },
  { ready: false, serving: false, terminating: true },
  { ready: true, serving: true, terminating: true },
  { ready: false },
  { ready: true, serving: false, terminating: false },
];

function endpointsIn(random: Random, version: Version, seen: Set<string>): EndpointSpec[] {
  const at = addressesOf[version];
  const hinted = random(4);
  const made: EndpointSpec[] = [];
  for (let left = random(5); left > 0; left--) {
    const [ip, node] = pick<readonly [string, string | undefined]>(
      random,
      ...([[at.here, 'node-a'] as const, [at.hereToo, 'node-a'] as const] as const),
      ...([[at.there, 'node-b'] as const, [at.otherNode, 'node-b'] as const] as const),
      ...([[at.node, 'node-a'] as const, [at.there, undefined] as const] as const),
    );
    const state = pick(random, ...conditions);
    const key = `${ip} ${state.terminating === true}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const zones =
      hinted === 0 || (hinted === 1 && random(3) > 0) ? [pick(random, 'zone-a', 'zone-b')] : undefined;
    const hintNodes = random(12) === 0 ? [pick(random, 'node-a', 'node-b')] : undefined;
    made.push({
      ip,
      ...state,
      ...(node === undefined ? {} : { node }),
      ...(zones === undefined ? {} : { zones }),
      ...(hintNodes === undefined ? {} : { hintNodes }),
    });
  }
  return made;
}

function slicesIn(random: Random, name: string, version: Version, ports: readonly Port[]): Json[] {
  const offered = ports.map(({ name: named, protocol }, index) => ({
    name: named,
    protocol,
    port: 8080 + index,
  }));
  const seen = new Set<string>();
  return Array.from({ length: random(3) }, (_, index) => {
    const some = pick<readonly Json[] | null>(random, offered, offered, offered, offered.slice(0, 1), null);
    const slice = sliceObject(
      `${name}/${version}-${index}`,
      some as Json[],
      endpointsIn(random, version, seen),
    );
    return { ...slice, addressType: version === 'ipv4' ? 'IPv4' : 'IPv6' };
  });
}

function portsIn(random: Random, index: number, hasNodePorts: boolean): Port[] {
  const made = (name: string, port: number, protocol: string, nodePort: number): Port => ({
    name,
    port,
    protocol,
    ...(hasNodePorts ? { nodePort } : {}),
  });
  const first = made('a', 80, pick(random, 'TCP', 'TCP', 'UDP', 'SCTP'), 30_000 + 2 * index);
  return random(3) > 0 ? [first] : [first, made('b', 81, pick(random, 'TCP', 'UDP'), 30_001 + 2 * index)];
}

function rangesIn(random: Random): string[] {
  if (random(2) === 0) return [];
  const [v4, v6] = [addressesOf.ipv4, addressesOf.ipv6];
  const all = [v4, v6].flatMap((at) => [at.outsideRange, at.nodeRange, at.secondRange, at.pods]);
  const some = Array.from({ length: 1 + random(3) }, () => pick(random, ...all));
  return [
    ...new Set([...some, ...(random(10) === 0 ? [v4.all] : []), ...(random(10) === 0 ? [v6.all] : [])]),
  ];
}

function makeService(random: Random, index: number): RandomService {
  const served = pick<readonly Version[]>(random, ['ipv4'], ['ipv6'], ['ipv4', 'ipv6'], ['ipv6', 'ipv4']);
  const type = pick(random, 'ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer');
  const ports = portsIn(random, index, type !== 'ClusterIP');
  const external = random(2) === 0 ? served.map((version) => externalAddress(version, index)) : [];
  const balanced = type === 'LoadBalancer' ? served.map((version) => balancerAddress(version, index)) : [];
  const ingress = balanced.map((ip) => ({
    ip,
    ...pick<Json>(random, {}, {}, { ipMode: 'VIP' }, { ipMode: 'Proxy' }),
  }));
  const externalTrafficPolicy = pick(random, 'Cluster', 'Local');
  const healthCheckNodePort =
    type === 'LoadBalancer' && externalTrafficPolicy === 'Local' ? 32_000 + index : 0;
  const clusterIPs = served.map((version) => clusterAddress(version, index));
  const spec = {
    ...{ type, clusterIP: clusterIPs[0], clusterIPs, ports, externalIPs: external },
    ipFamilies: served.map((version) => version.replace('ipv', 'IPv')),
    ...{ internalTrafficPolicy: pick(random, 'Cluster', 'Cluster', 'Local'), healthCheckNodePort },
    ...(type === 'ClusterIP' && external.length === 0 ? {} : { externalTrafficPolicy }),
    sessionAffinity: pick(random, 'None', 'None', 'None', 'ClientIP'),
    // An API server would set it.
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } },
    loadBalancerSourceRanges: type === 'LoadBalancer' ? rangesIn(random) : [],
  };
  const name = `random/service-${index}`;
  const slices = (version: Version): Json[] =>
    served.includes(version) ? slicesIn(random, name, version, ports) : [];
  const own = [...clusterIPs, ...external, ...balanced];
  return {
    service: serviceObject(name, spec, { status: { loadBalancer: { ingress } } }) as RandomService['service'],
    slices: { ipv4: slices('ipv4'), ipv6: slices('ipv6') },
    ports,
    addresses: {
      ipv4: own.filter((address) => !address.includes(':')),
      ipv6: own.filter((address) => address.includes(':')),
    },
    healthCheckNodePort,
  };
}

export function randomCluster(seed: number, count: number): RandomService[] {
  const random = seeded(seed);
  return Array.from({ length: count }, (_, index) => makeService(random, index + 1));
}

/** The part of a cluster that is of one family, as the reading of kube-proxy takes it. */
export function statesIn(cluster: readonly RandomService[], version: Version): ApiState[] {
  const isOurs = (text: string): boolean => text.includes(':') === (version === 'ipv6');
  const ours = (texts: unknown): string[] => (texts as readonly string[]).filter(isOurs);
  return cluster.map(({ service, slices }) => {
    const { spec, status } = service;
    const { ingress } = status.loadBalancer as { ingress: readonly { ip: string }[] };
    const part = {
      ...service,
      spec: {
        ...spec,
        clusterIP: ours(spec.clusterIPs)[0],
        externalIPs: ours(spec.externalIPs),
        loadBalancerSourceRanges: ours(spec.loadBalancerSourceRanges),
      },
      status: { loadBalancer: { ingress: ingress.filter(({ ip }) => isOurs(ip)) } },
    };
    return { service: part, slices: slices[version] } as unknown as ApiState;
  });
}

/** Packets from everybody to everything that has to do with these Services. @param local the node's addresses */
export function packetsTo(
  cluster: readonly RandomService[],
  version: Version,
  local: ReadonlySet<string>,
): Packet[] {
  const at = addressesOf[version];
  const others = [at.here, at.idlePod, at.there, at.outside, at.stranger, at.otherNode];
  return cluster.flatMap(({ ports, addresses, healthCheckNodePort }) => {
    const own = addresses[version];
    const targets = ports.flatMap(({ port, protocol, nodePort }) => [
      ...own.map((destination) => ({ destination, port, protocol })),
      ...own.slice(0, 1).map((destination) => ({ destination, port: 83, protocol })),
      ...[at.node, at.secondAddress, at.loopback].flatMap((destination) =>
        nodePort === undefined ? [] : { destination, port: nodePort, protocol },
      ),
    ]);
    const checks = healthCheckNodePort === 0 ? [] : [at.node, at.loopback];
    const all = [
      ...targets,
      ...checks.map((destination) => ({ destination, port: healthCheckNodePort, protocol: 'TCP' })),
    ];
    return all.flatMap(({ destination, port, protocol }) => {
      const to = { destination, port, protocol: protocol.toLowerCase() as Packet['protocol'] };
      const here = [at.node, at.loopback, ...(local.has(destination) ? [destination] : [])];
      return [
        ...others.map((source): Packet => ({ ...to, source, fromNode: false })),
        ...[...new Set(here)].map((source): Packet => ({ ...to, source, fromNode: true })),
      ];
    });
  });
}
