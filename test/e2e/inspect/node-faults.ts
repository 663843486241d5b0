import { escaped, type Fault, restoreRules, text } from './fault.ts';

export const podFaults: readonly Fault[] = [
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
    says: ({ veth }) => new RegExp(`its device ${veth} has hairpin mode off: the pod does not reach itself`),
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
    apply: ({ gateway }) => `ip address delete ${gateway}/24 dev cni0`,
    undo: ({ gateway }) => `ip address add ${gateway}/24 dev cni0`,
    by: 'diff',
    says: ({ gateway }) => new RegExp(`its gateway ${escaped(gateway)} is no address of the bridge cni0`),
  },
  {
    name: 'a pod has lost its default route',
    apply: ({ pod }) => `ip -n ${pod.namespace.name} route delete default`,
    undo: ({ pod, gateway }) => `ip -n ${pod.namespace.name} route add default via ${gateway}`,
    by: 'diff',
    says: text('the pod has lost its route to 0.0.0.0/0', '$ nsenter --net='),
  },
  {
    name: 'a pod has lost its address',
    apply: ({ pod }) => `ip -n ${pod.namespace.name} address delete ${pod.ipv4}/24 dev eth0`,
    undo: ({ pod, gateway }) =>
      [
        `ip -n ${pod.namespace.name} address add ${pod.ipv4}/24 dev eth0`,
        `ip -n ${pod.namespace.name} route replace default via ${gateway}`,
        `ip -n ${pod.namespace.name} route replace 10.244.0.0/16 via ${gateway}`,
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

export const ruleFaults: readonly Fault[] = [
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

export const serviceFaults: readonly Fault[] = [
  {
    name: 'nothing leads to the Services',
    apply: () =>
      'iptables-nft -t nat -D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    undo: () => restoreRules,
    by: 'diff',
    says: text('service rules nat PREROUTING (IPv4) missing the rule', '-j KUBE-SERVICES', 'is missing'),
  },
  {
    name: 'the rules of all Services are flushed with nft',
    apply: () => 'nft flush ruleset',
    undo: () => restoreRules,
    by: 'status',
    says: text(
      "no Service is reached (IPv4), its rules are not there: nothing leads to them: the rule '-A PREROUTING",
      '$ twill diff',
    ),
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
