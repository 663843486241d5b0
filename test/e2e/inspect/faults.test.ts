import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parseAddress } from '../../../src/model/address.ts';
import { nexthopId } from '../../../src/overlay/plan/entries.ts';
import { twillProgram } from '../../lab/files.ts';
import { etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { fewSubnets } from '../../lab/two-nodes.ts';
import { flannelLease } from '../overlay/state.ts';

/** What the faults are about. */
interface Scene {
  readonly lab: Lab;
  readonly node: LabNode;
  readonly pod: Pod;
  readonly veth: string;
  /** The first address of the node's subnet. */
  readonly own: string;
}

type Command = 'status' | 'routes' | 'diff' | 'services';

interface Fault {
  readonly name: string;
  /** Shell commands on the node. */
  readonly apply: (scene: Scene) => string;
  readonly undo: (scene: Scene) => string;
  /** The command that names it, and what it says. */
  readonly by: Command;
  readonly says: (scene: Scene) => RegExp;
}

const id = (third: number): number => nexthopId(parseAddress(`10.244.${third}.0`));
const mac = (third: number): string => `02:00:00:00:00:${third}`;
const escaped = (text: string): string => text.replace(/[.()/$]/g, '\\$&');
const text =
  (...parts: string[]) =>
  (): RegExp =>
    new RegExp(parts.map(escaped).join('[^]*?'));

const route40 = `ip route replace 10.244.40.0/24 nhid ${id(40)} proto 80`;
const hop = (third: number): string =>
  `ip nexthop replace id ${id(third)} via 10.244.${third}.0 dev flannel.1 onlink protocol 80`;
/** What hangs on the device goes with it (neighbour entries with its last address, say): agent and proxy put it right, and are stopped again. */
const resume = 'true # resume';
const restoreRules = 'iptables-nft-restore < rules.saved';
const overlayFaults: readonly Fault[] = [
  {
    name: 'a route is gone',
    apply: () => 'ip route delete 10.244.40.0/24',
    undo: () => route40,
    by: 'routes',
    says: text('10.244.40.0/24', 'its route is missing'),
  },
  {
    name: 'a route leads elsewhere',
    apply: () => 'ip route replace 10.244.40.0/24 via 192.0.2.1',
    undo: () => route40,
    by: 'diff',
    says: text('route 10.244.40.0/24 wrong is via 192.0.2.1 dev eth0', '$ ip route show 10.244.40.0/24'),
  },
  {
    name: 'a longer prefix takes a part of a node’s subnet away',
    apply: () => 'ip route add 10.244.40.0/28 via 192.0.2.1',
    undo: () => 'ip route delete 10.244.40.0/28',
    by: 'routes',
    says: text('10.244.40.0/24', 'the kernel sends to its pods another way: via 192.0.2.1 dev eth0'),
  },
  {
    name: 'a routing rule comes before',
    apply: () =>
      'ip route add 10.244.41.0/24 via 192.0.2.1 table 77; ip rule add to 10.244.41.0/24 lookup 77',
    undo: () => 'ip rule delete to 10.244.41.0/24 lookup 77; ip route flush table 77',
    by: 'diff',
    says: text('route 10.244.41.0/24 wrong', 'via 192.0.2.1 dev eth0', '$ ip route get 10.244.41.2'),
  },
  {
    name: 'a route of no node stands',
    apply: () => 'ip route add 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink',
    undo: () => 'ip route delete 10.244.77.0/24',
    by: 'diff',
    says: text('route 10.244.77.0/24 foreign belongs to no node'),
  },
  {
    name: 'a nexthop object is gone, and its route with it',
    apply: () => `ip nexthop delete id ${id(42)}`,
    undo: () => `${hop(42)}; ip route replace 10.244.42.0/24 nhid ${id(42)} proto 80`,
    by: 'diff',
    says: text(`nexthop id ${id(42)} missing`),
  },
  {
    name: 'a nexthop object leads elsewhere',
    apply: () => `ip nexthop replace id ${id(41)} via 10.244.99.0 dev flannel.1 onlink protocol 80`,
    undo: () => hop(41),
    by: 'routes',
    says: text('10.244.41.0/24', 'its nexthop is via 10.244.99.0 dev flannel.1'),
  },
  {
    name: 'a neighbour entry is gone',
    apply: () => 'ip neigh delete 10.244.41.0 dev flannel.1',
    undo: () => `ip neigh replace 10.244.41.0 lladdr ${mac(41)} dev flannel.1 nud permanent`,
    by: 'routes',
    says: text('10.244.41.0/24', 'its neighbour entry is missing'),
  },
  {
    name: 'a neighbour entry has a wrong MAC address',
    apply: () => 'ip neigh replace 10.244.41.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent',
    undo: () => `ip neigh replace 10.244.41.0 lladdr ${mac(41)} dev flannel.1 nud permanent`,
    by: 'diff',
    says: text('neighbour 10.244.41.0 wrong is lladdr 02:00:00:00:00:99'),
  },
  {
    name: 'a forwarding entry is gone',
    apply: () => `bridge fdb delete ${mac(42)} dev flannel.1 dst 192.0.2.42`,
    undo: () => `bridge fdb replace ${mac(42)} dev flannel.1 dst 192.0.2.42`,
    by: 'routes',
    says: text('10.244.42.0/24', 'its forwarding entry is missing'),
  },
  {
    name: 'a forwarding entry leads to another node',
    apply: () => `bridge fdb replace ${mac(42)} dev flannel.1 dst 192.0.2.99`,
    undo: () => `bridge fdb replace ${mac(42)} dev flannel.1 dst 192.0.2.42`,
    by: 'diff',
    says: text(`fdb ${mac(42)} wrong is dst 192.0.2.99 dev flannel.1, should be dst 192.0.2.42`),
  },
  {
    name: 'a forwarding entry of no node stands',
    apply: () => `bridge fdb add ${mac(77)} dev flannel.1 dst 192.0.2.77`,
    undo: () => `bridge fdb delete ${mac(77)} dev flannel.1 dst 192.0.2.77`,
    by: 'diff',
    says: text(`fdb ${mac(77)} foreign`),
  },
  {
    name: 'another node is not reached by the underlay',
    apply: () => 'ip route add unreachable 192.0.2.42/32',
    undo: () => 'ip route delete unreachable 192.0.2.42/32',
    by: 'routes',
    says: text('10.244.42.0/24', 'the node itself is not reached: 192.0.2.42 unreachable'),
  },
];

const deviceFaults: readonly Fault[] = [
  {
    name: 'the VXLAN device is down',
    apply: () => 'ip link set flannel.1 down',
    undo: () => resume,
    by: 'status',
    says: text('node1 is down: flannel.1 is wrong: the device is down', '$ ip -d link show flannel.1'),
  },
  {
    name: 'the VXLAN device is deleted',
    apply: () => 'ip link delete flannel.1',
    undo: () => resume,
    by: 'status',
    says: text('node1 is down: flannel.1 is missing: the VXLAN device is gone'),
  },
  {
    name: 'the VXLAN device has another MTU',
    apply: () => 'ip link set flannel.1 mtu 1200',
    undo: () => 'ip link set flannel.1 mtu 1450',
    by: 'diff',
    says: text('device flannel.1 wrong MTU is 1200, should be 1450'),
  },
  {
    name: 'the VXLAN device has another MAC address',
    apply: () => 'ip link set flannel.1 address 02:aa:aa:aa:aa:aa',
    undo: () => resume,
    by: 'diff',
    says: text('device flannel.1 wrong MAC address is 02:aa:aa:aa:aa:aa, should be'),
  },
  {
    name: 'the VXLAN device has lost its address',
    apply: () => 'ip address flush dev flannel.1',
    undo: () => resume,
    by: 'diff',
    says: ({ own }) => new RegExp(`device flannel.1 missing its address ${escaped(own)} is gone`),
  },
  {
    name: 'the VXLAN device has a foreign address',
    apply: () => 'ip address add 10.244.88.1/24 dev flannel.1 noprefixroute',
    undo: () => 'ip address delete 10.244.88.1/24 dev flannel.1',
    by: 'diff',
    says: text('device flannel.1 foreign the address 10.244.88.1/24 does not belong there'),
  },
  {
    name: 'the underlay is down',
    apply: () => 'ip link set eth0 down',
    undo: () => 'ip link set eth0 up; ip route add default via 192.0.2.1 dev eth0',
    by: 'status',
    says: text('node1 is down: eth0 is wrong: the interface between the nodes is down'),
  },
  {
    name: 'the underlay has a smaller MTU',
    apply: () => 'ip link set eth0 mtu 1400',
    undo: () => 'ip link set eth0 mtu 1500; ip link set flannel.1 mtu 1450',
    by: 'status',
    says: text('eth0 is wrong: its MTU is 1400, and the overlay is made for 1500'),
  },
  {
    name: 'the underlay has lost its address',
    apply: () => 'ip address delete 192.0.2.11/24 dev eth0',
    undo: () => 'ip address add 192.0.2.11/24 dev eth0; ip route replace default via 192.0.2.1 dev eth0',
    by: 'status',
    says: text("eth0 is missing: this node's address 192.0.2.11 is gone"),
  },
  {
    name: 'forwarding is off',
    apply: () => 'echo 0 > /proc/sys/net/ipv4/ip_forward',
    undo: () => 'echo 1 > /proc/sys/net/ipv4/ip_forward',
    by: 'status',
    says: text('node1 is down: net.ipv4.ip_forward is wrong: is 0, should be 1'),
  },
  {
    name: 'bridged packets are kept from iptables',
    apply: () => 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables',
    undo: () => 'echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables',
    by: 'diff',
    says: text('sysctl net.bridge.bridge-nf-call-iptables wrong is 0, should be 1'),
  },
  {
    name: 'reverse path filtering is strict',
    apply: () => 'echo 1 > /proc/sys/net/ipv4/conf/flannel.1/rp_filter',
    undo: () => 'echo 0 > /proc/sys/net/ipv4/conf/flannel.1/rp_filter',
    by: 'status',
    says: text('net.ipv4.conf.flannel.1.rp_filter is strict'),
  },
];

const podFaults: readonly Fault[] = [
  {
    name: 'a pod’s device is no port of the bridge',
    apply: ({ veth }) => `ip link set ${veth} nomaster`,
    undo: ({ veth }) => `ip link set ${veth} master cni0; bridge link set dev ${veth} hairpin on`,
    by: 'diff',
    says: ({ veth }) => new RegExp(`pod \\S+ wrong its device ${veth} is no port of the bridge cni0`),
  },
  {
    name: 'a pod’s device is down',
    apply: ({ veth }) => `ip link set ${veth} down`,
    undo: ({ veth }) => `ip link set ${veth} up`,
    by: 'diff',
    says: ({ veth }) => new RegExp(`its device ${veth} is down`),
  },
  {
    name: 'hairpin is off',
    apply: ({ veth }) => `bridge link set dev ${veth} hairpin off`,
    undo: ({ veth }) => `bridge link set dev ${veth} hairpin on`,
    by: 'diff',
    says: ({ veth }) => new RegExp(`hairpin is off at ${veth}`),
  },
  {
    name: 'the bridge is down',
    apply: () => 'ip link set cni0 down',
    undo: () => 'ip link set cni0 up',
    by: 'status',
    says: text('the bridge cni0 is down'),
  },
  {
    name: 'the bridge has lost the pods’ gateway',
    apply: ({ own }) => `ip address delete ${own.replace(/0$/, '1')}/24 dev cni0`,
    undo: ({ own }) => `ip address add ${own.replace(/0$/, '1')}/24 dev cni0`,
    by: 'diff',
    says: ({ own }) =>
      new RegExp(`its gateway ${escaped(own.replace(/0$/, '1'))} is no address of the bridge cni0`),
  },
  {
    name: 'a pod has lost its default route',
    apply: ({ pod }) => `ip -n ${pod.namespace.name} route delete default`,
    undo: ({ pod, own }) => `ip -n ${pod.namespace.name} route add default via ${own.replace(/0$/, '1')}`,
    by: 'diff',
    says: text('the pod has lost its route to 0.0.0.0/0', '$ nsenter --net='),
  },
  {
    name: 'a pod has lost its address',
    apply: ({ pod }) => `ip -n ${pod.namespace.name} address delete ${pod.ipv4}/24 dev eth0`,
    undo: ({ pod, own }) =>
      [
        `ip -n ${pod.namespace.name} address add ${pod.ipv4}/24 dev eth0`,
        `ip -n ${pod.namespace.name} route replace default via ${own.replace(/0$/, '1')}`,
        `ip -n ${pod.namespace.name} route replace 10.244.0.0/16 via ${own.replace(/0$/, '1')}`,
      ].join('; '),
    by: 'diff',
    says: ({ pod }) => new RegExp(`eth0 of the pod has lost ${escaped(pod.ipv4)}/24`),
  },
  {
    name: 'a pod’s address is one of the node’s, too',
    apply: ({ pod }) => `ip address add ${pod.ipv4}/32 dev lo`,
    undo: ({ pod }) => `ip address delete ${pod.ipv4}/32 dev lo`,
    by: 'diff',
    says: ({ pod }) => new RegExp(`${escaped(pod.ipv4)} is an address of this node's lo, too`),
  },
  {
    name: 'the subnet file is gone',
    apply: () => 'mv subnet.env subnet.away',
    undo: () => 'mv subnet.away subnet.env',
    by: 'diff',
    says: () => /subnet file \S+subnet.env missing the file is gone/,
  },
];

const ruleFaults: readonly Fault[] = [
  {
    name: 'the masquerade chain is empty',
    apply: () => 'iptables-nft -t nat -F FLANNEL-POSTRTG',
    undo: () => restoreRules,
    by: 'diff',
    says: text('rules nat FLANNEL-POSTRTG (IPv4) wrong missing', '$ iptables-nft -t nat -S FLANNEL-POSTRTG'),
  },
  {
    name: 'nothing leads to the masquerade chain',
    apply: () => 'iptables-nft -t nat -D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
    undo: () => restoreRules,
    by: 'diff',
    says: text('rules nat FLANNEL-POSTRTG (IPv4) wrong nothing leads to it'),
  },
  {
    name: 'the jump to the masquerade chain stands twice',
    apply: () => 'iptables-nft -t nat -A POSTROUTING -j FLANNEL-POSTRTG',
    undo: () => restoreRules,
    by: 'diff',
    says: text('POSTROUTING leads to it 2 times'),
  },
  {
    name: 'the guard of the VXLAN port is gone',
    apply: () => 'iptables-nft -t mangle -F TWILL-GUARD-IN',
    undo: () => restoreRules,
    by: 'diff',
    says: text('rules mangle TWILL-GUARD-IN (IPv4) wrong missing'),
  },
  {
    name: 'all rules are flushed with nft',
    apply: () => 'nft flush ruleset',
    undo: () => restoreRules,
    by: 'diff',
    says: text(
      'rules nat FLANNEL-POSTRTG (IPv4) missing the chain is gone',
      'service rules filter INPUT (IPv4) missing the rule',
    ),
  },
  {
    name: 'a foreign DROP stands in FORWARD',
    apply: () => 'iptables-nft -I FORWARD -s 10.244.0.0/16 -j DROP',
    undo: () => restoreRules,
    by: 'status',
    says: text(
      "pods do not reach the outside: the rule '-A FORWARD -s 10.244.0.0/16 -j DROP'",
      '$ iptables-nft -S FORWARD -v',
    ),
  },
  {
    name: 'a foreign DROP stands in INPUT, in a chain of its own',
    apply: () =>
      'iptables-nft -N firewall; iptables-nft -A firewall -p tcp --dport 22 -j ACCEPT; iptables-nft -A firewall -j DROP; iptables-nft -A INPUT -i eth0 -j firewall',
    undo: () => restoreRules,
    by: 'status',
    says: text(
      "UDP port 8472 is closed: nothing comes in from pods of other nodes: the rule '-A firewall -j DROP'",
    ),
  },
  {
    name: 'the VXLAN port is closed',
    apply: () => 'iptables-nft -I INPUT -p udp --dport 8472 -j DROP',
    undo: () => restoreRules,
    by: 'status',
    says: text('UDP port 8472 is closed: nothing comes in', '-A INPUT -p udp -m udp --dport 8472 -j DROP'),
  },
  {
    name: 'the VXLAN port is closed on the way out',
    apply: () => 'iptables-nft -A OUTPUT -p udp --dport 8472 -j REJECT',
    undo: () => restoreRules,
    by: 'status',
    says: text('UDP port 8472 is closed: nothing goes out to pods of other nodes'),
  },
  {
    name: 'FORWARD drops by policy, and nothing lets pods past',
    apply: () =>
      'iptables-nft -P FORWARD DROP; iptables-nft -D FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    undo: () => restoreRules,
    by: 'status',
    says: text('pods do not reach the outside: the policy DROP of chain FORWARD'),
  },
  {
    name: 'rules of the other variant of iptables stand, too',
    apply: () => 'iptables-legacy -t nat -N KUBE-SERVICES',
    undo: () => 'iptables-legacy -t nat -X KUBE-SERVICES',
    by: 'status',
    says: text('both variants of iptables have KUBE-SERVICES'),
  },
  {
    name: 'the chain of host ports is empty',
    apply: () => 'iptables-nft -t nat -F CNI-HOSTPORT-TWILL',
    undo: () => restoreRules,
    by: 'diff',
    says: text('host ports nat CNI-HOSTPORT-TWILL (IPv4) wrong'),
  },
];

const serviceFaults: readonly Fault[] = [
  {
    name: 'nothing leads to the Services',
    apply: () =>
      'iptables-nft -t nat -D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    undo: () => restoreRules,
    by: 'diff',
    says: text('service rules nat PREROUTING (IPv4) missing the rule', '-j KUBE-SERVICES', 'is missing'),
  },
  {
    name: 'the chain of all Services is empty',
    apply: () => 'iptables-nft -t nat -F KUBE-SERVICES',
    undo: () => restoreRules,
    by: 'diff',
    says: text('service rules nat KUBE-SERVICES (IPv4) wrong missing'),
  },
  {
    name: 'a Service leads to an address that is none of its endpoints',
    apply: () =>
      'CHAIN=$(iptables-nft -t nat -S | grep -o -m1 "KUBE-SVC-[A-Z0-9]*"); iptables-nft -t nat -I $CHAIN -p tcp -j DNAT --to-destination 10.244.99.9:80',
    undo: () => restoreRules,
    by: 'diff',
    says: () =>
      /service rules nat KUBE-SVC-\S+ \(IPv4\) wrong foreign '-A KUBE-SVC-\S+ -p tcp -j DNAT --to-destination 10\.244\.99\.9:80'/,
  },
  {
    name: 'connections that are masqueraded are so no more',
    apply: () => 'iptables-nft -t nat -F KUBE-POSTROUTING',
    undo: () => restoreRules,
    by: 'diff',
    says: text('service rules nat KUBE-POSTROUTING (IPv4) wrong missing'),
  },
  {
    name: 'a Service has no endpoints',
    apply: () => 'true',
    undo: () => 'true',
    by: 'status',
    says: text('shop/empty: it has no endpoints', '$ twill services shop/empty'),
  },
  {
    name: 'no endpoint of a Service is ready',
    apply: () => 'true',
    undo: () => 'true',
    by: 'services',
    says: () => /shop\/starting .*none of its 1 endpoints is ready/,
  },
  {
    name: 'a Service with policy Local has no endpoint here',
    apply: () => 'true',
    undo: () => 'true',
    by: 'services',
    says: () => /shop\/elsewhere .*externalTrafficPolicy Local, and no ready endpoint on this node/,
  },
  {
    name: 'a Service takes connections from a source range only',
    apply: () => 'true',
    undo: () => 'true',
    by: 'services',
    says: () => /shop\/guarded .*only from 203\.0\.113\.0\/24/,
  },
];

const service = (name: string, ip: string, spec: string, endpoints: string): string => `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${ip}, clusterIPs: [${ip}], ports: [{ port: 80, protocol: TCP${spec.includes('NodePort') ? ', nodePort: 30080' : ''} }]${spec} }
status: { loadBalancer: { ingress: [${name === 'guarded' ? '{ ip: 203.0.113.80 }' : ''}] } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ name: '', port: 8080, protocol: TCP }]
endpoints: [${endpoints}]
---
`;

function manifests(pod: Pod): string {
  const ready = '{ addresses: [10.244.40.5], nodeName: node9, conditions: { ready: true } }';
  const here = `{ addresses: [${pod.ipv4}], nodeName: node1, conditions: { ready: true } }`;
  return [
    service('web', '10.96.0.10', '', here),
    service('empty', '10.96.0.11', '', ''),
    service(
      'starting',
      '10.96.0.12',
      '',
      '{ addresses: [10.244.40.6], nodeName: node9, conditions: { ready: false } }',
    ),
    service('elsewhere', '10.96.0.13', ', type: NodePort, externalTrafficPolicy: Local', ready),
    service(
      'guarded',
      '10.96.0.14',
      ', type: LoadBalancer, loadBalancerSourceRanges: [203.0.113.0/24]',
      here,
    ),
  ].join('');
}

describe('every fault is named while agent and proxy are stopped', () => {
  let scene: Scene;

  const run = (command: Command, ...more: string[]) =>
    scene.node.namespace.run(process.execPath, [
      twillProgram,
      command,
      ...more,
      `--socket=${scene.node.cniSocket}`,
      `--proxy-socket=${scene.node.proxySocket}`,
    ]);

  const shell = async (script: string): Promise<void> => {
    const { status, stderr } = await scene.node.namespace.run('sh', [
      '-c',
      `cd ${scene.node.dir}\n${script}`,
    ]);
    assert.equal(status, 0, `${script}: ${stderr}`);
  };

  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    for (const running of [scene.node.agent!, scene.node.proxy!]) process.kill(running.pid, name);
  };

  /** Agent and proxy have put right, and written down, everything. */
  const settle = async (): Promise<void> => {
    const { lab } = scene;
    await lab.waitFor('nothing to differ', async () => {
      const { status, stdout } = await run('diff');
      if (status === 0) return true;
      throw new Error(stdout);
    });
  };

  before(async () => {
    const lab = await Lab.start({ nodes: 2, networkConfig: fewSubnets });
    const [node, two] = lab.nodes as [LabNode, LabNode];
    for (const host of [40, 41, 42]) {
      const { key, value } = flannelLease(host, mac(host));
      await lab.etcd.put(key, value);
    }
    await Promise.all([node.startAgent(), two.startAgent()]);
    const pod = await node.addPod('web', {
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 8080, protocol: 'tcp' }] },
    });
    lab.writeManifest('services.yaml', manifests(pod));
    await node.startProxy();
    const leases = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    const subnetOf = (ip: string): string =>
      leases
        .find(({ value }) => value.includes(`"${ip}"`))!
        .key.split('/')
        .at(-1)!
        .replace('-', '/');
    const veth = (pod.result as unknown as { interfaces: { name: string }[] }).interfaces.find(({ name }) =>
      name.startsWith('veth'),
    )!.name;
    scene = {
      lab,
      node,
      pod,
      veth,
      own: subnetOf('192.0.2.11').split('/')[0]!,
    };
    const stateFile = (name: string): string => join(node.dir, `${name}-state.json`);
    await settle();
    await lab.waitFor('the state of both to be written down', () => {
      if (!existsSync(stateFile('proxy'))) return false;
      const text = readFileSync(stateFile('agent'), 'utf8');
      const known = JSON.parse(text) as { leases: unknown[]; rules: { wanted: unknown[] } };
      return (
        known.leases.length === 5 &&
        known.rules.wanted.length > 0 &&
        (JSON.parse(readFileSync(stateFile('proxy'), 'utf8')) as { ready: boolean }).ready
      );
    });
    await shell('iptables-nft-save > rules.saved');
    signal('SIGSTOP');
  });
  after(async () => {
    if (scene?.node.agent?.running) signal('SIGCONT');
    await scene?.lab.stop();
  });

  it('without a fault nothing differs, and the verdict says that they are stopped', async () => {
    const diff = await run('diff');
    assert.match(diff.stdout, /^all is as it should be\nthe agent \(process \d+\) is stopped by a signal/);
    assert.equal(diff.status, 0);
    const status = await run('status');
    assert.match(status.stdout, /^node1 is degraded: the agent \(process \d+\) is stopped by a signal/);
    assert.match(status.stdout, /degraded +proxy +the proxy \(process \d+\) is stopped/);
    assert.equal(status.status, 1);
    assert.equal((await run('routes')).status, 0);
  });

  for (const fault of [...overlayFaults, ...deviceFaults, ...podFaults, ...ruleFaults, ...serviceFaults]) {
    it(fault.name, async () => {
      await shell(fault.apply(scene));
      const { status, stdout, stderr } = await run(fault.by);
      // Columns and line breaks are for people.
      const said = stdout.replace(/\s+/g, ' ');
      const undo = fault.undo(scene);
      await shell(undo);
      if (undo === resume) {
        signal('SIGCONT');
        await settle();
        signal('SIGSTOP');
      }
      assert.match(said, fault.says(scene), stderr);
      assert.ok(status > 0, stdout);
    });
  }

  it('when all is undone and both go on nothing differs, and nothing is wrong', async () => {
    signal('SIGCONT');
    await settle();
    const status = await run('status', '-o', 'json');
    const { version, drift, problems, agent, proxy } = JSON.parse(status.stdout);
    assert.equal(version, 1);
    assert.deepEqual(drift, {});
    assert.ok(agent.answers && proxy.answers);
    // The agent has seen its device change five times, and says so.
    const wrong = (problems as { severity: string; area: string }[]).filter(
      ({ severity, area }) => severity !== 'note' && area !== 'contested',
    );
    assert.deepEqual(wrong, []);
  });

  it('diff --fix has agent and proxy put it right', async () => {
    signal('SIGSTOP');
    await shell('iptables-nft -t nat -F FLANNEL-POSTRTG; iptables-nft -t nat -F KUBE-POSTROUTING');
    const before = JSON.parse((await run('diff', '-o', 'json')).stdout) as { differences: unknown[] };
    assert.equal(before.differences.length, 2);
    const away = await run('diff', '--fix');
    assert.match(away.stdout.replace(/\s+/g, ' '), /0 put right, 2 differences left/);
    signal('SIGCONT');
    const { status, stdout } = await run('diff', '--fix');
    assert.match(stdout, /put right, all is as it should be\n/);
    assert.equal(status, 0);
  });

  it('as JSON the answers have the fields that programs rely on', async () => {
    const shapes: Readonly<Record<Command | 'pods' | 'preflight', readonly string[]>> = {
      status: [
        ...['version', 'verdict', 'summary', 'node', 'problems', 'agent', 'proxy', 'lease', 'network'],
        ...['peers', 'addresses', 'repairs', 'drift', 'rules', 'versions'],
      ],
      routes: ['version', 'nodes', 'foreign'],
      diff: ['version', 'differences', 'unknown'],
      services: ['version', 'services'],
      pods: ['version', 'pods'],
      preflight: ['version', 'checks', 'failed', 'warnings'],
    };
    for (const [command, fields] of Object.entries(shapes)) {
      const answer = JSON.parse((await run(command as Command, '-o', 'json')).stdout);
      assert.equal(answer.version, 1);
      assert.deepEqual(Object.keys(answer).sort(), [...fields].sort(), command);
    }
    const one = JSON.parse((await run('services', 'shop/web', '-o', 'json')).stdout);
    const fields = ['endpoints', 'mode', 'rules', 'rulesKnown', 'service', 'version'];
    assert.deepEqual(Object.keys(one).sort(), fields);
    assert.ok(
      one.rules.some(({ rule }: { rule: string }) => rule.includes(`--to-destination ${scene.pod.ipv4}`)),
    );
  });

  it('--watch looks again until it is ended', async () => {
    const args = [twillProgram, 'routes', '-o', 'json', '--watch=0.1', `--socket=${scene.node.cniSocket}`];
    const child = scene.node.namespace.spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout!.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await scene.lab.waitFor('three answers', () => (said.match(/^\{$/gm)?.length ?? 0) >= 3);
    child.kill();
  });
});
