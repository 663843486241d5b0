import { type ChecksumOffload, checksumOffloads } from '../desired/checksum-offload.ts';
import { type Address, parseAddress, tryParseAddress } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import { type LogFormat, type LogLevel, logLevels } from './log.ts';

/** `twill agent`'s configuration, checked. flanneld's flags keep their names and meaning. */
export interface AgentConfig {
  readonly etcdEndpoints: readonly string[];
  readonly etcdPrefix: string;
  readonly etcdCaFile: string | undefined;
  readonly etcdCertFile: string | undefined;
  readonly etcdKeyFile: string | undefined;
  readonly etcdUsername: string | undefined;
  readonly etcdPassword: string | undefined;
  readonly interfaces: readonly string[];
  readonly interfacePatterns: readonly string[];
  readonly interfaceCanReach: string | undefined;
  readonly publicIps: readonly Address[];
  readonly subnetFile: string;
  readonly leaseRenewMarginSeconds: number;
  readonly ipMasq: boolean;
  readonly randomFully: boolean;
  readonly forwardRules: boolean;
  readonly rulesResyncMs: number;
  readonly kubeSubnetManager: boolean;
  readonly kubeApiUrl: string | undefined;
  readonly kubeConfigFile: string | undefined;
  readonly kubeAnnotationPrefix: string;
  readonly netConfigPath: string;
  readonly setNodeNetworkUnavailable: boolean;
  readonly healthz: { readonly host: string; readonly port: number } | undefined;
  readonly metricsBindAddress: string | undefined;
  readonly stateDir: string;
  readonly cniSocket: string;
  /** Where the container runtime looks for CNI configurations. */
  readonly cniConfDir: string;
  readonly bridge: string;
  readonly resyncMs: number;
  readonly txChecksumOffload: ChecksumOffload;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** A flag: `env` is its name in the environment without the prefix; repeated flags come as a list. */
export interface AgentFlag {
  readonly name: string;
  readonly kind: 'text' | 'list' | 'boolean' | 'integer';
  readonly standard?: string | number | boolean;
  readonly help: string;
}

/** flanneld's flags, then our own. */
export const agentFlags: readonly AgentFlag[] = [
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
  { name: 'etcd-password', kind: 'text', help: 'password for etcd' },
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
    name: 'ip-masq-random-fully-disable',
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
    name: 'kube-subnet-mgr',
    kind: 'boolean',
    standard: false,
    help: "take subnets from the Kubernetes nodes' podCIDRs instead of etcd",
  },
  { name: 'kube-api-url', kind: 'text', help: 'URL of the Kubernetes API server' },
  { name: 'kubeconfig-file', kind: 'text', help: 'kubeconfig file' },
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

export type FlagValues = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

const camel = (name: string): string =>
  name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The value on the command line, else in TWILL_… or FLANNELD_…, else the standard. */
class Reader {
  private readonly flags: FlagValues;
  private readonly env: Readonly<Record<string, string | undefined>>;

  constructor(flags: FlagValues, env: Readonly<Record<string, string | undefined>>) {
    this.flags = flags;
    this.env = env;
  }

  private flag(name: string): AgentFlag {
    const flag = agentFlags.find((candidate) => candidate.name === name);
    if (flag === undefined) throw new TwillError('internal', `no flag ${name} is declared`);
    return flag;
  }

  private given(name: string): string | boolean | readonly string[] | undefined {
    const variable = name.toUpperCase().replaceAll('-', '_');
    return (
      this.flags[camel(name)] ??
      (this.env[`TWILL_${variable}`] || undefined) ??
      (this.env[`FLANNELD_${variable}`] || undefined)
    );
  }

  text(name: string): string | undefined {
    const value = this.given(name) ?? this.flag(name).standard;
    return value === undefined || value === '' ? undefined : String(value);
  }

  must(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw new TwillError('invalid', `--${name} must not be empty`);
    return value;
  }

  list(name: string): string[] {
    const value = this.given(name) ?? [];
    return typeof value === 'string' ? value.split(',') : [...(value as readonly string[])];
  }

  boolean(name: string): boolean {
    const value = this.given(name) ?? this.flag(name).standard;
    if (typeof value === 'boolean') return value;
    // The spellings that Go's strconv.ParseBool reads.
    if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(String(value))) return true;
    if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(String(value))) return false;
    throw new TwillError('invalid', `--${name} is '${value}', neither true nor false`);
  }

  integer(name: string, least: number, most: number): number {
    const text = this.must(name);
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < least || value > most)
      throw new TwillError('invalid', `--${name} is '${text}', not a whole number from ${least} to ${most}`);
    return value;
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const text = this.must(name);
    const value = allowed.find((candidate) => candidate === text);
    if (value === undefined)
      throw new TwillError('invalid', `--${name} is '${text}', not one of ${allowed.join(', ')}`);
    return value;
  }

  anyAddress(name: string): string | undefined {
    const text = this.text(name);
    if (text !== undefined && tryParseAddress(text) === undefined)
      throw new TwillError('invalid', `--${name} '${text}' is not an IP address`);
    return text;
  }

  address(name: string, kubeName: string): Address[] {
    const text = this.text(name);
    if (text === undefined) return [];
    const address = tryParseAddress(text);
    if (address?.family.kubeName !== kubeName)
      throw new TwillError('invalid', `--${name} '${text}' is not an ${kubeName} address`);
    return [parseAddress(text)];
  }
}

/**
 * Reads flags and environment.
 * @throws TwillError `invalid` naming the flag
 */
export function readAgentConfig(
  flags: FlagValues,
  env: Readonly<Record<string, string | undefined>>,
): AgentConfig {
  const read = new Reader(flags, env);
  const healthzPort = read.integer('healthz-port', 0, 65535);
  return {
    etcdEndpoints: read.must('etcd-endpoints').split(',').filter(Boolean),
    etcdPrefix: read.must('etcd-prefix').replace(/\/+$/, ''),
    etcdCaFile: read.text('etcd-cafile'),
    etcdCertFile: read.text('etcd-certfile'),
    etcdKeyFile: read.text('etcd-keyfile'),
    etcdUsername: read.text('etcd-username'),
    etcdPassword: read.text('etcd-password'),
    interfaces: read.list('iface'),
    interfacePatterns: read.list('iface-regex'),
    interfaceCanReach: read.anyAddress('iface-can-reach'),
    publicIps: [...read.address('public-ip', 'IPv4'), ...read.address('public-ipv6', 'IPv6')],
    subnetFile: read.must('subnet-file'),
    leaseRenewMarginSeconds: read.integer('subnet-lease-renew-margin', 1, 1439) * 60,
    ipMasq: read.boolean('ip-masq'),
    randomFully: !read.boolean('ip-masq-random-fully-disable'),
    forwardRules: read.boolean('iptables-forward-rules'),
    rulesResyncMs: read.integer('iptables-resync', 1, 86_400) * 1000,
    kubeSubnetManager: read.boolean('kube-subnet-mgr'),
    kubeApiUrl: read.text('kube-api-url'),
    kubeConfigFile: read.text('kubeconfig-file'),
    kubeAnnotationPrefix: read.must('kube-annotation-prefix'),
    netConfigPath: read.must('net-config-path'),
    setNodeNetworkUnavailable: read.boolean('set-node-network-unavailable'),
    healthz: healthzPort === 0 ? undefined : { host: read.must('healthz-ip'), port: healthzPort },
    metricsBindAddress: read.text('metrics-bind-address'),
    stateDir: read.must('state-dir'),
    cniSocket: read.must('cni-socket'),
    cniConfDir: read.must('cni-conf-dir'),
    bridge: read.must('bridge'),
    resyncMs: read.integer('resync', 1, 86_400) * 1000,
    txChecksumOffload: read.oneOf('tx-checksum-offload', checksumOffloads),
    logLevel: read.oneOf('log-level', logLevels),
    logFormat: read.oneOf('log-format', ['json', 'pretty'] as const),
  };
}
