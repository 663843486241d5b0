import { idleFlags } from './idle-flags.ts';
import { defaultProxySocket } from './inspect-socket.ts';
import type { ProxyFlag } from './proxy-flag.ts';

/** What decides how and where the proxy runs. */
const runFlags: readonly ProxyFlag[] = [
  {
    name: 'config',
    kind: 'text',
    beside: true,
    help: 'KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) to read instead of the flags that it has fields for; the proxy ends with status 0, to be started again, when it changes',
  },
  {
    name: 'write-config-to',
    kind: 'text',
    beside: true,
    help: 'write the configuration that is in force to this file, and exit',
  },
  {
    name: 'cleanup',
    kind: 'boolean',
    standard: false,
    beside: true,
    help: 'remove all rules of the proxy (and of kube-proxy) from this node, and exit',
  },
  {
    name: 'init-only',
    kind: 'boolean',
    standard: false,
    beside: true,
    help: 'make the settings of the kernel that need root, and exit; CAP_NET_ADMIN is enough to run afterwards',
  },
  {
    name: 'manifests',
    kind: 'text',
    beside: true,
    help: 'serve Services and EndpointSlices from the YAML files in this directory',
  },
  {
    name: 'kubeconfig',
    kind: 'text',
    field: 'clientConnection.kubeconfig',
    help: 'how to reach the Kubernetes API (default: the service account of the pod)',
  },
  {
    name: 'master',
    kind: 'text',
    beside: true,
    help: 'URL of the Kubernetes API, over what the kubeconfig says; several, separated by commas, are tried in turn',
  },
  {
    name: 'kubelet-kubeconfig',
    kind: 'list',
    beside: true,
    help: "kubeconfig of this node's kubelet: in a pod its server is asked before the API's Service address; nothing else of it is used; may repeat",
  },
  {
    name: 'hostname-override',
    kind: 'text',
    field: 'hostnameOverride',
    beside: true,
    help: "this node's name, as EndpointSlices say it (default: the hostname)",
  },
  {
    name: 'bind-address',
    kind: 'text',
    standard: '0.0.0.0',
    field: 'bindAddress',
    help: "this node's address, where it is not the one of its Node; in a file of --config an IPv6 one moves the standards of healthzBindAddress and metricsBindAddress to IPv6",
  },
  {
    name: 'oom-score-adj',
    kind: 'integer',
    standard: -999,
    field: 'oomScoreAdj',
    zeroCounts: true,
    help: "the process's oom_score_adj, -1000 to 1000",
  },
];

const ruleFlags: readonly ProxyFlag[] = [
  {
    name: 'proxy-mode',
    kind: 'text',
    standard: 'iptables',
    field: 'mode',
    help: 'how rules are programmed: iptables, nftables, or auto: nftables where kernel and nft can do all of it and nothing on the node needs iptables',
  },
  {
    name: 'cluster-cidr',
    kind: 'text',
    field: 'clusterCIDR',
    help: 'pod network, one per family: traffic from elsewhere is masqueraded',
  },
  {
    name: 'detect-local-mode',
    kind: 'text',
    standard: 'ClusterCIDR',
    field: 'detectLocalMode',
    help: 'how pod traffic is recognised: ClusterCIDR, NodeCIDR (the podCIDRs of its Node), BridgeInterface, InterfaceNamePrefix',
  },
  {
    name: 'pod-bridge-interface',
    kind: 'text',
    field: 'detectLocal.bridgeInterface',
    help: 'the pods’ bridge, for --detect-local-mode=BridgeInterface',
  },
  {
    name: 'pod-interface-name-prefix',
    kind: 'text',
    field: 'detectLocal.interfaceNamePrefix',
    help: 'for --detect-local-mode=InterfaceNamePrefix',
  },
  {
    name: 'masquerade-all',
    kind: 'boolean',
    standard: false,
    field: 'iptables.masqueradeAll',
    help: 'masquerade all traffic to cluster IPs',
  },
  {
    name: 'iptables-masquerade-bit',
    kind: 'integer',
    standard: 14,
    field: 'iptables.masqueradeBit',
    zeroCounts: true,
    help: 'bit of the packet mark that stands for masquerading, 0 to 31',
  },
  {
    name: 'nodeport-addresses',
    kind: 'list',
    field: 'nodePortAddresses',
    help: 'networks whose addresses of this node serve node ports and health check ports, or primary for those its Node names; may repeat (default: all; all of a family of which no network is given)',
  },
  {
    name: 'iptables-localhost-nodeports',
    kind: 'boolean',
    standard: true,
    field: 'iptables.localhostNodePorts',
    zeroCounts: true,
    help: 'serve node ports on 127.0.0.1 too',
  },
  {
    name: 'iptables-sync-period',
    kind: 'duration',
    standard: '5m0s',
    field: 'iptables.syncPeriod',
    help: 'how often the rules that stand are read and compared',
  },
  {
    name: 'iptables-min-sync-period',
    kind: 'duration',
    standard: '50ms',
    field: 'iptables.minSyncPeriod',
    help: 'least time between two changes of the rules',
  },
];

const conntrackFlags: readonly ProxyFlag[] = [
  {
    name: 'conntrack-max-per-core',
    kind: 'integer',
    standard: 32_768,
    field: 'conntrack.maxPerCore',
    zeroCounts: true,
    help: 'connections to track for each processor core; 0 leaves the limit as it is',
  },
  {
    name: 'conntrack-min',
    kind: 'integer',
    standard: 131_072,
    field: 'conntrack.min',
    zeroCounts: true,
    help: 'connections to track at least, unless --conntrack-max-per-core is 0',
  },
  {
    name: 'conntrack-tcp-timeout-established',
    kind: 'duration',
    standard: '24h0m0s',
    field: 'conntrack.tcpEstablishedTimeout',
    zeroCounts: true,
    help: 'how long an idle TCP connection is tracked; 0 leaves it as it is',
  },
  {
    name: 'conntrack-tcp-timeout-close-wait',
    kind: 'duration',
    standard: '1h0m0s',
    field: 'conntrack.tcpCloseWaitTimeout',
    zeroCounts: true,
    help: 'how long a TCP connection is tracked that one side has closed; 0 leaves it as it is',
  },
  {
    name: 'conntrack-tcp-be-liberal',
    kind: 'boolean',
    standard: false,
    field: 'conntrack.tcpBeLiberal',
    help: 'do not take TCP packets outside of the window for INVALID (nf_conntrack_tcp_be_liberal)',
  },
  {
    name: 'conntrack-udp-timeout',
    kind: 'duration',
    standard: '0s',
    field: 'conntrack.udpTimeout',
    help: 'how long UDP without an answer is tracked; 0 leaves it as it is',
  },
  {
    name: 'conntrack-udp-timeout-stream',
    kind: 'duration',
    standard: '0s',
    field: 'conntrack.udpStreamTimeout',
    help: 'how long an answered UDP conversation is tracked; 0 leaves it as it is',
  },
];

const serverFlags: readonly ProxyFlag[] = [
  {
    name: 'healthz-bind-address',
    kind: 'text',
    standard: '0.0.0.0:10256',
    field: 'healthzBindAddress',
    emptyMeans: 'nowhere',
    help: 'serve /healthz, /livez, /readyz here: IP:PORT, IP or :PORT; 0.0.0.0 is every address of both families',
  },
  {
    name: 'metrics-bind-address',
    kind: 'text',
    standard: '127.0.0.1:10249',
    field: 'metricsBindAddress',
    emptyMeans: 'nowhere',
    help: 'serve /metrics, /configz, /flagz and /statusz here, likewise',
  },
  {
    name: 'bind-address-hard-fail',
    kind: 'boolean',
    standard: false,
    field: 'bindAddressHardFail',
    help: 'end when one of these addresses cannot be served, instead of trying again while rules are written',
  },
  {
    name: 'healthz-port',
    kind: 'integer',
    standard: 10_256,
    help: 'port of a --healthz-bind-address without one; 0 serves nothing (deprecated)',
  },
  {
    name: 'metrics-port',
    kind: 'integer',
    standard: 10_249,
    help: 'port of a --metrics-bind-address without one; 0 serves nothing (deprecated)',
  },
  {
    name: 'profiling',
    kind: 'boolean',
    standard: false,
    field: 'enableProfiling',
    help: 'refused: there is no /debug/pprof here',
  },
];

const logFlags: readonly ProxyFlag[] = [
  {
    name: 'log-level',
    kind: 'text',
    standard: 'info',
    beside: true,
    help: 'trace, debug, info, warn, error or fatal',
  },
  { name: 'log-format', kind: 'text', standard: 'json', beside: true, help: 'json or pretty' },
  {
    name: 'inspect-socket',
    kind: 'text',
    standard: defaultProxySocket,
    beside: true,
    help: 'socket at which twill status, services and diff ask this proxy; beside it what it works by is written down; none for neither',
  },
  {
    name: 'v',
    kind: 'integer',
    field: 'logging.verbosity',
    beside: true,
    help: 'klog’s verbosity: 4 and more is --log-level=debug',
  },
  {
    name: 'logging-format',
    kind: 'text',
    standard: 'text',
    field: 'logging.format',
    beside: true,
    help: 'klog’s word for --log-format: text (as --log-format says) or json',
  },
];

/** All flags, in the order in which help shows them. */
export const proxyFlags: readonly ProxyFlag[] = [
  ...runFlags,
  ...ruleFlags,
  ...conntrackFlags,
  ...serverFlags,
  ...logFlags,
  ...idleFlags,
];

const kinds = new Map<string, ProxyFlag['kind']>(proxyFlags.map(({ name, kind }) => [name, kind]));

const isTrue = /^(=(1|t|T|true|TRUE|True|raw))?$/;
/** A version to report instead of its own changes nothing here. */
const isNothing = /^=(0|f|F|false|FALSE|False|v\d.*)$/;

function normalize(argument: string): string {
  const [, level] = /^-v=?(\d*)$/.exec(argument) ?? [];
  if (level !== undefined) return level === '' ? '--v' : `--v=${level}`;
  const [, name = '', rest = ''] = /^--([\w-]+)(=.*)?$/s.exec(argument) ?? [];
  const normal = name.replaceAll('_', '-');
  if (normal === 'help' || normal === 'version') {
    if (isNothing.test(rest)) return '';
    return isTrue.test(rest) ? `--${normal}` : argument;
  }
  return kinds.has(normal) ? `--${normal}${rest}` : argument;
}

/** True for a flag whose value is the next argument. */
function wantsNext(argument = ''): boolean {
  const kind = argument.startsWith('--') ? kinds.get(argument.slice(2)) : undefined;
  return kind !== undefined && kind !== 'boolean';
}

/**
 * The arguments as kube-proxy takes them: `_` like `-` in names, klog's `-v=4` and `-v4` like `--v=4`, a value for
 * `--version` and `--help`, and empty ones, which templates leave behind.
 * https://pkg.go.dev/k8s.io/component-base/cli/flag#WordSepNormalizeFunc
 */
export function proxyArguments(args: readonly string[]): string[] {
  const normalized = args.map(normalize);
  return normalized.filter(
    (argument, index) => argument !== '' || (args[index] === '' && wantsNext(normalized[index - 1])),
  );
}
