/**
 * Fates that kube-proxy's own unit tests state (pkg/proxy/iptables/proxier_test.go, release 1.36), for the node of
 * `service-world.ts` and IPv4: a check of our reading of it that does not come from the reading.
 */
import type { Packet } from './packet-walker.ts';
import type { EndpointSpec } from './service-fixtures.ts';

export interface Fact {
  /** The test there, and its packet. */
  readonly what: string;
  readonly spec: Record<string, unknown>;
  readonly endpoints: readonly EndpointSpec[];
  readonly tellsPods?: false;
  readonly masqueradeAll?: true;
  readonly packet: Omit<Packet, 'protocol'>;
  readonly endings: readonly string[];
}

const node = '192.0.2.1';
const here = { ip: '10.244.1.5', node: 'node-a' };
const there = { ip: '10.244.2.7', node: 'node-b' };
const both = [here, there];
const drains = { ready: false, serving: true, terminating: true };
const web = { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] };
const exposed = { ...web, ports: [{ ...web.ports[0], nodePort: 30_080 }], externalIPs: ['203.0.113.77'] };
const balanced = { ...exposed, type: 'LoadBalancer' };
const local = { ...balanced, externalTrafficPolicy: 'Local', healthCheckNodePort: 32_000 };
const ranged = { ...balanced, loadBalancerSourceRanges: ['198.51.100.0/24'] };

const to = {
  cluster: { destination: '10.96.0.10', port: 80 },
  external: { destination: '203.0.113.77', port: 80 },
  balancer: { destination: '203.0.113.9', port: 80 },
  nodePort: { destination: node, port: 30_080 },
  loopback: { destination: '127.0.0.1', port: 30_080 },
  health: { destination: node, port: 32_000 },
};
const from = {
  pod: { source: '10.244.1.99', fromNode: false },
  endpoint: { source: '10.244.1.5', fromNode: false },
  node: { source: node, fromNode: true },
  loopback: { source: '127.0.0.1', fromNode: true },
  outside: { source: '198.51.100.9', fromNode: false },
  stranger: { source: '203.0.113.200', fromNode: false },
};
const plain = ['10.244.1.5:8080', '10.244.2.7:8080'];
const masqueraded = plain.map((ending) => `${ending} masqueraded`);

type Row = [
  what: string,
  spec: Record<string, unknown>,
  endpoints: readonly EndpointSpec[],
  source: keyof typeof from,
  target: keyof typeof to,
  endings: readonly string[],
];

const rows: readonly Row[] = [
  ['ClusterIP: a pod keeps its address', web, both, 'pod', 'cluster', plain],
  ['ClusterIP: from outside it is masqueraded', web, both, 'outside', 'cluster', masqueraded],
  ['ClusterIP: the node is masqueraded', web, both, 'node', 'cluster', masqueraded],
  [
    'ClusterIP: a pod that meets itself is masqueraded',
    web,
    [here],
    'endpoint',
    'cluster',
    [masqueraded[0]!],
  ],
  ['ClusterIP without endpoints: rejected', web, [], 'pod', 'cluster', ['rejected']],
  ['ClusterIP without endpoints: rejected for the node', web, [], 'node', 'cluster', ['rejected']],
  ['NodePort: a pod is masqueraded', exposed, both, 'pod', 'nodePort', masqueraded],
  ['NodePort: from outside it is masqueraded', exposed, both, 'outside', 'nodePort', masqueraded],
  ['NodePort: the node is masqueraded', exposed, both, 'node', 'nodePort', masqueraded],
  ['NodePort at localhost: masqueraded', exposed, both, 'loopback', 'loopback', masqueraded],
  ['NodePort without endpoints: rejected', exposed, [], 'outside', 'nodePort', ['rejected']],
  ['NodePort without endpoints at localhost: rejected', exposed, [], 'loopback', 'loopback', ['rejected']],
  [
    'NodePort without endpoints at localhost, from the node: dropped',
    exposed,
    [],
    'node',
    'loopback',
    ['dropped'],
  ],
  ['external IP: from outside it is masqueraded', exposed, both, 'outside', 'external', masqueraded],
  ['external IP without endpoints: rejected', exposed, [], 'outside', 'external', ['rejected']],
  ['LoadBalancer: from outside it is masqueraded', balanced, both, 'outside', 'balancer', masqueraded],
  ['LoadBalancer: a pod is masqueraded', balanced, both, 'pod', 'balancer', masqueraded],
  ['LoadBalancer with ranges: inside', ranged, both, 'outside', 'balancer', masqueraded],
  ['LoadBalancer with ranges: outside', ranged, both, 'stranger', 'balancer', ['dropped']],
  [
    'LoadBalancer with ranges: the node port is not subject to them',
    ranged,
    both,
    'stranger',
    'nodePort',
    masqueraded,
  ],
  ['LoadBalancer with ranges: a pod is subject to them', ranged, both, 'pod', 'balancer', ['dropped']],
  [
    'Local: from outside only what is here, with its address',
    local,
    both,
    'outside',
    'nodePort',
    [plain[0]!],
  ],
  ['Local: from outside to the balancer', local, both, 'outside', 'balancer', [plain[0]!]],
  ['Local: a pod short-circuits', local, both, 'pod', 'balancer', plain],
  ['Local: a pod short-circuits to node ports', local, both, 'pod', 'nodePort', plain],
  ['Local: the node short-circuits', local, both, 'node', 'nodePort', masqueraded],
  ['Local: the node short-circuits at localhost', local, both, 'loopback', 'loopback', masqueraded],
  ['Local without any here: dropped from outside', local, [there], 'outside', 'nodePort', ['dropped']],
  ['Local without any here: dropped at the balancer', local, [there], 'outside', 'balancer', ['dropped']],
  ['Local without any here: a pod short-circuits', local, [there], 'pod', 'external', [plain[1]!]],
  ['Local without any at all: rejected', local, [], 'outside', 'nodePort', ['rejected']],
  [
    'Local, draining here: still served',
    local,
    [{ ...here, ...drains }, there],
    'outside',
    'nodePort',
    [plain[0]!],
  ],
  ['Local: the health check port is let in', local, [there], 'outside', 'health', [`${node}:32000`]],
  [
    'internal Local: a pod reaches what is here',
    { ...web, internalTrafficPolicy: 'Local' },
    both,
    'pod',
    'cluster',
    [plain[0]!],
  ],
  [
    'internal Local without any here: dropped',
    { ...web, internalTrafficPolicy: 'Local' },
    [there],
    'pod',
    'cluster',
    ['dropped'],
  ],
  [
    'internal Local without any at all: rejected',
    { ...web, internalTrafficPolicy: 'Local' },
    [],
    'pod',
    'cluster',
    ['rejected'],
  ],
  ['all drain: still served', web, [{ ...there, ...drains }], 'pod', 'cluster', [plain[1]!]],
  [
    'one drains, one is ready: the ready one',
    web,
    [{ ...here, ...drains }, there],
    'pod',
    'cluster',
    [plain[1]!],
  ],
];

export const facts: readonly Fact[] = [
  ...rows.map(
    ([what, spec, endpoints, source, target, endings]): Fact => ({
      what,
      spec,
      endpoints,
      packet: { ...from[source], ...to[target] },
      endings,
    }),
  ),
  {
    what: 'ClusterIP with masqueradeAll: a pod is masqueraded',
    ...{ spec: web, endpoints: both, masqueradeAll: true, endings: masqueraded },
    packet: { ...from.pod, ...to.cluster },
  },
  {
    what: 'Local without a cluster CIDR: a pod is not told from outside',
    ...{ spec: local, endpoints: both, tellsPods: false, endings: [plain[0]!] },
    packet: { ...from.pod, ...to.nodePort },
  },
];
