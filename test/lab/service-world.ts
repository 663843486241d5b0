/**
 * States of one Service on one node, made by combining what matters to where its packets go, and the packets to ask
 * about. Node is `node-a` in `zone-a`; a renderer's test asks what becomes of each and compares with
 * {@link kubeProxyEndings}.
 */
import type { ApiState, NodeSetting } from './kube-proxy-reading.ts';
import { inNetwork, type Packet } from './packet-walker.ts';
import { type EndpointSpec, serviceObject, sliceObject } from './service-fixtures.ts';

/** Addresses of one family. */
const ipv4 = {
  clusterIP: '10.96.0.10',
  external: '203.0.113.77',
  balancer: '203.0.113.9',
  node: '192.0.2.1',
  secondAddress: '192.0.2.3',
  otherNode: '192.0.2.2',
  loopback: '127.0.0.1',
  here: '10.244.1.5',
  hereToo: '10.244.1.6',
  there: '10.244.2.7',
  idlePod: '10.244.1.99',
  outside: '198.51.100.9',
  stranger: '203.0.113.200',
  pods: '10.244.0.0/16',
  outsideRange: '198.51.100.0/24',
  nodeRange: '192.0.2.0/28',
  secondRange: '192.0.2.3/32',
  all: '0.0.0.0/0',
};

export type Addresses = typeof ipv4;

const ipv6: Addresses = {
  clusterIP: 'fd00:96::a',
  external: '2001:db8:3::77',
  balancer: '2001:db8:3::9',
  node: 'fd00:192::1',
  secondAddress: 'fd00:192::3',
  otherNode: 'fd00:192::2',
  loopback: '::1',
  here: 'fd00:244:0:1::5',
  hereToo: 'fd00:244:0:1::6',
  there: 'fd00:244:0:2::7',
  idlePod: 'fd00:244:0:1::99',
  outside: '2001:db8:1::9',
  stranger: '2001:db8:2::9',
  pods: 'fd00:244::/56',
  outsideRange: '2001:db8:1::/64',
  nodeRange: 'fd00:192::/124',
  secondRange: 'fd00:192::3/128',
  all: '::/0',
};

export const addressesOf = { ipv4, ipv6 };

const draining = { ready: false, serving: true, terminating: true };
const unready = { ready: false, serving: false, terminating: false };
const gone = { ready: false, serving: false, terminating: true };

/** What is behind the Service. */
function endpointSets(at: Addresses): Readonly<Record<string, readonly EndpointSpec[]>> {
  const here = { ip: at.here, node: 'node-a' };
  const hereToo = { ip: at.hereToo, node: 'node-a' };
  const there = { ip: at.there, node: 'node-b' };
  const zoned = (one: EndpointSpec, ...zones: string[]): EndpointSpec => ({ ...one, zones });
  const forNode = (one: EndpointSpec, ...hintNodes: string[]): EndpointSpec => ({ ...one, hintNodes });
  return {
    'no endpoint': [],
    'one here': [here],
    'one elsewhere': [there],
    'one here, one elsewhere': [here, there],
    'one of which nothing says where it is': [{ ip: at.there }],
    'one that is not ready here': [{ ...here, ...unready }],
    'one here that drains': [{ ...here, ...draining }],
    'one elsewhere that drains': [{ ...there, ...draining }],
    'one here that drains, one elsewhere': [{ ...here, ...draining }, there],
    'one here, one elsewhere that drains': [here, { ...there, ...draining }],
    'one here that ends and does not serve': [{ ...here, ...gone }],
    'one here that ends and is ready (publishNotReadyAddresses)': [{ ...here, terminating: true }],
    'one address that drains here and runs elsewhere': [
      { ...here, ...draining },
      { ip: at.here, node: 'node-b' },
    ],
    'one address that drains elsewhere and is not ready here': [
      { ip: at.here, node: 'node-b', ...draining },
      { ...here, ...unready },
    ],
    'the node itself': [{ ip: at.node, node: 'node-a' }],
    'hints for our zone and another': [zoned(here, 'zone-a'), zoned(there, 'zone-b')],
    'hints for our zone elsewhere': [zoned(here, 'zone-b'), zoned(there, 'zone-a')],
    'hints for no zone of ours': [zoned(here, 'zone-b'), zoned(there, 'zone-c')],
    'hints that one lacks': [zoned(here, 'zone-b'), zoned(there, 'zone-a'), hereToo],
    'hints for our node': [forNode(here, 'node-a'), forNode(there, 'node-b')],
    'hints for other nodes': [forNode(here, 'node-b'), forNode(there, 'node-b')],
    'hints for our zone, that drains': [{ ...zoned(here, 'zone-a'), ...draining }, zoned(there, 'zone-b')],
  };
}

/** How the proxy was started, and what the node is like. */
export interface Manner {
  readonly what: string;
  readonly tellsPods?: false;
  readonly masqueradeAll?: true;
  readonly localhostNodePorts?: false;
  readonly forwards?: 'DROP';
  /** Node ports at the node's first address alone. */
  readonly oneAddress?: true;
  /** The load balancer's address is one of the node. */
  readonly holdsBalancer?: true;
}

export const manners: readonly Manner[] = [
  { what: 'as usual' },
  { what: 'FORWARD drops', forwards: 'DROP' },
  { what: 'masquerading all', masqueradeAll: true },
  { what: 'without a way to tell pods', tellsPods: false },
  { what: 'no node ports at 127.0.0.1', localhostNodePorts: false },
  { what: 'node ports at one address', oneAddress: true },
  { what: 'the node holds the load balancer’s address', holdsBalancer: true },
];

/** The node in this manner, as the reading of kube-proxy has it. */
export function nodeIn(manner: Manner, at: Addresses): NodeSetting {
  const v6 = at.node.includes(':');
  const local = [at.node, at.secondAddress, at.loopback, ...(manner.holdsBalancer ? [at.balancer] : [])];
  return {
    name: 'node-a',
    zone: 'zone-a',
    address: at.node,
    local: new Set(local),
    isPod: manner.tellsPods === false ? undefined : (address) => inNetwork(address, at.pods),
    masqueradeAll: manner.masqueradeAll === true,
    localhostNodePorts: !v6 && manner.localhostNodePorts !== false && manner.oneAddress === undefined,
    ...(manner.oneAddress ? { nodePortAddresses: [at.node] } : {}),
    ...(manner.forwards === undefined ? {} : { forwards: manner.forwards }),
    contains: (network, address) => inNetwork(address, network),
  };
}

/** One Service and its slice, as the API shows them. */
export interface WorldState extends ApiState {
  readonly what: string;
}

const policies = ['Cluster', 'Local'] as const;

function specs(at: Addresses): { what: string; spec: Record<string, unknown> }[] {
  const ports = [{ name: 'http', port: 80, protocol: 'TCP' }];
  const withNodePort = [{ ...ports[0], nodePort: 30_080 }];
  const ranges: Readonly<Record<string, readonly string[]>> = {
    'no ranges': [],
    'a range outside': [at.outsideRange],
    'a range with the node': [at.outsideRange, at.nodeRange],
    'a range with another address of the node': [at.secondRange],
    'a range of all': [at.outsideRange, at.all],
  };
  return policies.flatMap((internalTrafficPolicy) => {
    const common = { clusterIP: at.clusterIP, internalTrafficPolicy };
    const says = `internal ${internalTrafficPolicy}`;
    const external = policies.flatMap((externalTrafficPolicy) => {
      const exposed = { ...common, externalTrafficPolicy, externalIPs: [at.external], ports: withNodePort };
      const what = `${says}, external ${externalTrafficPolicy}`;
      return [
        { what: `NodePort, ${what}`, spec: { ...exposed, type: 'NodePort' } },
        ...Object.entries(ranges).map(([named, loadBalancerSourceRanges]) => ({
          what: `LoadBalancer, ${what}, ${named}`,
          spec: {
            ...exposed,
            type: 'LoadBalancer',
            loadBalancerSourceRanges,
            ...(externalTrafficPolicy === 'Local' ? { healthCheckNodePort: 32_000 } : {}),
            ...(named === 'no ranges' ? { sessionAffinity: 'ClientIP' } : {}),
          },
        })),
      ];
    });
    return [{ what: `ClusterIP, ${says}`, spec: { ...common, type: 'ClusterIP', ports } }, ...external];
  });
}

/** All combinations of a kind of Service with what is behind it. */
export function worldStates(at: Addresses): WorldState[] {
  const ingress = [{ ip: at.balancer }, { ip: at.outside, ipMode: 'Proxy' }];
  return specs(at).flatMap(({ what, spec }) =>
    Object.entries(endpointSets(at)).map(([behind, endpoints]) => {
      const service = serviceObject('shop/web', spec, { status: { loadBalancer: { ingress } } });
      const slice = sliceObject('shop/web', [{ name: 'http', port: 8080, protocol: 'TCP' }], endpoints);
      const addressType = at.node.includes(':') ? 'IPv6' : 'IPv4';
      const state = { service, slices: [{ ...slice, addressType }] } as unknown as ApiState;
      return { what: `${what}; ${behind}`, ...state };
    }),
  );
}

/**
 * A pod of another node sends to the cluster address here, and is sent to itself: kube-proxy masquerades that. Rules that
 * know of endpoints here alone do not see it.
 */
export function isDistantHairpin(state: WorldState, packet: Packet, at: Addresses): boolean {
  if (packet.destination !== at.clusterIP) return false;
  const endpoints = state.slices.flatMap((slice) => slice.endpoints ?? []);
  return endpoints.some(({ addresses, nodeName }) => addresses[0] === packet.source && nodeName === 'node-b');
}

/** Packets from everybody to everything that has to do with the Service. */
export function packetsIn(node: NodeSetting, at: Addresses): Packet[] {
  const targets = [
    ...[at.clusterIP, at.external, at.balancer].map((destination) => ({ destination, port: 80 })),
    { destination: at.clusterIP, port: 81 },
    ...[at.node, at.secondAddress, at.loopback, at.otherNode].map((destination) => ({
      destination,
      port: 30_080,
    })),
    ...[at.node, at.loopback].map((destination) => ({ destination, port: 32_000 })),
    { destination: at.node, port: 8080 },
    { destination: at.there, port: 8080 },
  ];
  const others = [at.here, at.idlePod, at.there, at.outside, at.stranger, at.otherNode];
  return targets.flatMap((target) => [
    ...others.map((source): Packet => ({ ...target, source, protocol: 'tcp', fromNode: false })),
    // The node sends from any of its addresses.
    ...[...node.local].map((source): Packet => ({ ...target, source, protocol: 'tcp', fromNode: true })),
  ]);
}
