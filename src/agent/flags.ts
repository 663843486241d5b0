import type { Flag } from '../model/flag.ts';
import { logLevels } from '../process/log.ts';
import { defaultProxySocket } from '../services/plan/inspect-socket.ts';

/** flanneld's flags, then our own. */
export const agentFlags: readonly Flag[] = [
  {
    name: 'etcd-endpoints',
    kind: 'text',
    standard: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    help: 'etcd endpoints, separated by commas',
  },
  { name: 'etcd-prefix', kind: 'text', standard: '/coreos.com/network', help: 'etcd prefix' },
  { name: 'etcd-keyfile', kind: 'text', help: 'TLS key for etcd' },
  { name: 'etcd-certfile', kind: 'text', help: 'TLS client certificate for etcd' },
  { name: 'etcd-cafile', kind: 'text', help: 'TLS certificate authority of etcd' },
  { name: 'etcd-username', kind: 'text', help: 'user name for etcd' },
  {
    name: 'etcd-password',
    kind: 'text',
    help: 'password for etcd; on the command line everybody on the node can read it: rather use --etcd-password-file, or TWILL_ETCD_PASSWORD in the environment',
  },
  {
    name: 'etcd-password-file',
    kind: 'text',
    help: 'file with the password for etcd, read again when etcd wants another',
  },
  { name: 'iface', kind: 'list', help: 'interface (name or IP) for traffic between nodes; may repeat' },
  {
    name: 'iface-regex',
    kind: 'list',
    help: 'pattern for the name or IP of that interface, tried after --iface; may repeat',
  },
  { name: 'iface-can-reach', kind: 'text', help: 'use the interface through which this IP is reached' },
  { name: 'public-ip', kind: 'text', help: 'IPv4 address at which other nodes reach this one' },
  { name: 'public-ipv6', kind: 'text', help: 'IPv6 address at which other nodes reach this one' },
  {
    name: 'subnet-file',
    kind: 'text',
    standard: '/run/flannel/subnet.env',
    help: 'file to write subnet, MTU and so on to',
  },
  {
    name: 'subnet-lease-renew-margin',
    kind: 'integer',
    standard: 60,
    help: 'minutes before its end at which the lease is renewed at the latest, 1 to 1439',
  },
  {
    name: 'ip-masq',
    kind: 'boolean',
    standard: false,
    help: 'masquerade traffic that leaves the pod network',
  },
  {
    name: 'ip-masq-fully-random-disable',
    kind: 'boolean',
    standard: false,
    help: 'do not choose the ports of masqueraded connections at random',
  },
  { name: 'iptables-resync', kind: 'integer', standard: 5, help: 'seconds between checks of the rules' },
  {
    name: 'iptables-forward-rules',
    kind: 'boolean',
    standard: true,
    help: 'accept forwarded traffic of the pod network',
  },
  {
    name: 'rules',
    kind: 'text',
    standard: 'network',
    help: 'what rules are made with: iptables, nftables, network (as EnableNFTables of the network configuration says), or auto: nftables where kernel and nft can do all of it and nothing on the node needs iptables',
  },
  {
    name: 'vxlan-peers-only',
    kind: 'boolean',
    standard: false,
    help: "drop what comes to the VXLAN port from another address than a lease's public IP; breaks nodes behind NAT and others that send from an address that is not their public IP; needs nft",
  },
  {
    name: 'ip-blackhole-route',
    kind: 'boolean',
    standard: false,
    help: "discard what is for this node's subnet while no bridge takes it, instead of sending it out again",
  },
  {
    name: 'kube-subnet-mgr',
    kind: 'boolean',
    standard: false,
    help: "take subnets from the Kubernetes nodes' podCIDRs instead of etcd",
  },
  {
    name: 'kube-api-url',
    kind: 'text',
    help: 'URL of the Kubernetes API server; several, separated by commas, are tried in turn',
  },
  { name: 'kubeconfig-file', kind: 'text', help: 'kubeconfig file' },
  {
    name: 'kubelet-kubeconfig',
    kind: 'list',
    help: "kubeconfig of this node's kubelet: in a pod its server is asked before the API's Service address; nothing else of it is used; may repeat",
  },
  {
    name: 'kube-annotation-prefix',
    kind: 'text',
    standard: 'flannel.alpha.coreos.com',
    help: "prefix of the nodes' annotations",
  },
  {
    name: 'net-config-path',
    kind: 'text',
    standard: '/etc/kube-flannel/net-conf.json',
    help: 'network configuration for --kube-subnet-mgr',
  },
  {
    name: 'set-node-network-unavailable',
    kind: 'boolean',
    standard: true,
    help: "clear the node's NetworkUnavailable condition when ready",
  },
  { name: 'healthz-ip', kind: 'text', standard: '0.0.0.0', help: 'address to serve /healthz and /readyz on' },
  { name: 'healthz-port', kind: 'integer', standard: 0, help: 'port to serve them on, 0 for none' },
  { name: 'metrics-bind-address', kind: 'text', help: 'IP:PORT to serve /metrics on, none by default' },
  {
    name: 'mesh-probe-port',
    kind: 'integer',
    standard: 0,
    help: 'UDP port at which the nodes ask each other whether they are reached, by underlay and overlay; the same on all nodes, 0 for none',
  },
  {
    name: 'mesh-probe-interval',
    kind: 'duration',
    standard: '10s',
    help: 'in this time at most 20 other nodes are asked: each once in max(1, nodes / 20) of it',
  },
  {
    name: 'page-bind-address',
    kind: 'text',
    help: 'IP:PORT to serve a page for people on, which shows nodes, pods, Services and what is wrong, and traces packets; none by default; whoever reaches it reads all that, and nothing can be changed by it',
  },
  {
    name: 'page-host',
    kind: 'list',
    help: "name by which browsers reach the page, beside addresses, localhost and the node's own name; may repeat",
  },
  {
    name: 'proxy-socket',
    kind: 'text',
    standard: defaultProxySocket,
    help: "the proxy's --inspect-socket, for the page",
  },
  {
    name: 'state-dir',
    kind: 'text',
    standard: '/run/twill',
    help: 'directory for state that must not outlive the boot',
  },
  {
    name: 'cni-socket',
    kind: 'text',
    standard: '/run/twill/cni.sock',
    help: 'Unix socket on which the CNI plugin reaches the agent',
  },
  {
    name: 'cni-conf-dir',
    kind: 'text',
    standard: '/etc/cni/net.d',
    help: "CNI configurations of the container runtime: those that sort before Twill's are warned about",
  },
  {
    name: 'install-cni-conf',
    kind: 'text',
    help: 'CNI configuration to put into --cni-conf-dir, under its own name, as soon as pods can be wired; others that sort first are set aside',
  },
  {
    name: 'cni-data-dir',
    kind: 'text',
    standard: '/var/lib/cni',
    help: "where flannel's chain of CNI plugins keeps the addresses it gave out: pods that it made are adopted",
  },
  { name: 'bridge', kind: 'text', standard: 'cni0', help: "bridge for this node's pods" },
  { name: 'resync', kind: 'integer', standard: 30, help: 'seconds between full comparisons with the kernel' },
  {
    name: 'tx-checksum-offload',
    kind: 'text',
    standard: 'auto',
    help: "transmit checksum offload of the VXLAN device: on, off, or auto: off on kernels that spoil masqueraded packets' checksums",
  },
  { name: 'log-level', kind: 'text', standard: 'info', help: logLevels.join(', ') },
  { name: 'log-format', kind: 'text', standard: 'json', help: 'json or pretty' },
];

/** klog's flags, which flanneld has too: `v` sets the level, the others concern files that we do not write. */
export const klogFlags: readonly Flag[] = [
  { name: 'v', kind: 'integer', help: '4 and more is --log-level=debug' },
  ...(
    ['vmodule', 'log_backtrace_at', 'stderrthreshold', 'log_dir', 'log_file', 'log_file_max_size'] as const
  ).map((name) => ({ name, kind: 'text' as const, help: 'has no meaning here' })),
  ...(
    [
      'logtostderr',
      'alsologtostderr',
      'add_dir_header',
      'skip_headers',
      'skip_log_headers',
      'one_output',
    ] as const
  ).map((name) => ({ name, kind: 'boolean' as const, help: 'has no meaning here' })),
];

const names = new Set([...agentFlags, ...klogFlags].map(({ name }) => name)).add('version').add('help');

/** The arguments with flags as flanneld takes them, `-ip-masq` like `--ip-masq`, in the latter form. */
export function agentArguments(args: readonly string[]): string[] {
  return args.map((argument) => {
    const [, name = ''] = /^-([a-z][\w-]*)(?:=|$)/.exec(argument) ?? [];
    return names.has(name) ? `-${argument}` : argument;
  });
}
