import { readFileSync } from 'node:fs';
import type { Address } from '../model/address.ts';
import { TwillError, withoutCredentials } from '../model/error.ts';
import type { FlagValues } from '../model/flag.ts';
import { goRegExp } from '../model/go-regexp.ts';
import { withoutLineEnd } from '../model/text.ts';
import { type ChecksumOffload, checksumOffloads } from '../overlay/plan/checksum-offload.ts';
import { interfaceNameProblem } from '../pods/cni/schema.ts';
import { type BindAddress, parseBindAddress } from '../process/bind-address.ts';
import { FlagReader } from '../process/flag-reader.ts';
import { type LogFormat, type LogLevel, logLevels } from '../process/log.ts';
import { agentFlags, klogFlags } from './flags.ts';
import { type RulesWish, rulesWishes } from './rules-wish.ts';

/** `twill agent`'s configuration, checked. flanneld's flags keep their names and meaning. */
export interface AgentConfig {
  readonly etcdEndpoints: readonly string[];
  readonly etcdPrefix: string;
  readonly etcdCaFile: string | undefined;
  readonly etcdCertFile: string | undefined;
  readonly etcdKeyFile: string | undefined;
  readonly etcdUsername: string | undefined;
  readonly etcdPassword: string | undefined;
  /** Where it is read again when etcd wants another. */
  readonly etcdPasswordFile: string | undefined;
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
  readonly rules: RulesWish;
  readonly vxlanPeersOnly: boolean;
  readonly blackholeRoute: boolean;
  readonly kubeSubnetManager: boolean;
  readonly kubeApiUrl: string | undefined;
  readonly kubeConfigFile: string | undefined;
  readonly kubeletKubeconfigs: readonly string[];
  readonly kubeAnnotationPrefix: string;
  readonly netConfigPath: string;
  readonly setNodeNetworkUnavailable: boolean;
  readonly healthz: BindAddress | undefined;
  readonly metrics: BindAddress | undefined;
  /** Where nodes ask each other whether they are reached; undefined for nowhere. */
  readonly mesh: { readonly port: number; readonly intervalMs: number } | undefined;
  readonly page: BindAddress | undefined;
  readonly pageHosts: readonly string[];
  readonly proxySocket: string;
  readonly stateDir: string;
  readonly cniSocket: string;
  readonly cniDataDir: string;
  /** Where the container runtime looks for CNI configurations. */
  readonly cniConfDir: string;
  /** What the container runtime gets there. */
  readonly installCniConf: string | undefined;
  readonly bridge: string;
  readonly resyncMs: number;
  readonly txChecksumOffload: ChecksumOffload;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

const endpointPattern = /^(https?:\/\/)?(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?\/?$/i;

/** @throws TwillError `invalid` naming the one that is no address of a server */
function etcdEndpoints(text: string): string[] {
  const endpoints = text
    .split(',')
    .map((endpoint) => endpoint.trim())
    .filter(Boolean);
  for (const endpoint of endpoints) {
    if (endpointPattern.test(endpoint)) continue;
    const shown = withoutCredentials(endpoint);
    const advice =
      shown === endpoint
        ? ''
        : '; a user name belongs in --etcd-username, a password in --etcd-password-file';
    throw new TwillError(
      'invalid',
      `--etcd-endpoints: '${shown}' is not of the form http://HOST:PORT${advice}`,
    );
  }
  return endpoints;
}

/** @throws TwillError `invalid` when the file cannot be read, or both ways are given */
function etcdPassword(read: FlagReader): string | undefined {
  const given = read.text('etcd-password');
  const file = read.text('etcd-password-file');
  if (file === undefined) return given;
  if (given !== undefined)
    throw new TwillError('invalid', 'give --etcd-password or --etcd-password-file, not both');
  try {
    return withoutLineEnd(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new TwillError('invalid', `cannot read --etcd-password-file '${file}'`, cause);
  }
}

function healthz(read: FlagReader, port: number): BindAddress {
  return read.read('healthz-ip', () => parseBindAddress(read.must('healthz-ip'), port));
}

/** @throws TwillError `invalid` naming the one that is none: it would never match */
function interfacePatterns(read: FlagReader): string[] {
  const patterns = read.list('iface-regex');
  for (const pattern of patterns) read.read('iface-regex', () => goRegExp(pattern));
  return patterns;
}

/** @throws TwillError `invalid` for what can be no device's name */
function bridge(read: FlagReader): string {
  const name = read.must('bridge');
  const problem = interfaceNameProblem(name);
  if (problem !== undefined) throw read.refuse('bridge', `'${name}' ${problem}`);
  return name;
}

/** Shorter ones are for tests: 20 nodes in each. */
const LEAST_MESH_INTERVAL_MS = 100;

function mesh(read: FlagReader): AgentConfig['mesh'] {
  const port = read.integer('mesh-probe-port', 0, 65535);
  const intervalMs = read.duration('mesh-probe-interval');
  if (intervalMs < LEAST_MESH_INTERVAL_MS || intervalMs > 3_600_000)
    throw read.refuse(
      'mesh-probe-interval',
      `is '${read.must('mesh-probe-interval')}', not from 100ms to 1h`,
    );
  return port === 0 ? undefined : { port, intervalMs };
}

/**
 * Reads flags and environment.
 * @throws TwillError `invalid` naming the flag
 */
export function readAgentConfig(
  flags: FlagValues,
  env: Readonly<Record<string, string | undefined>>,
): AgentConfig {
  const read = new FlagReader([...agentFlags, ...klogFlags], { flags, env });
  // flanneld tells about each lease from 2 on, about each entry from 4 on.
  const verbose = Number(read.text('v') ?? 0) >= 4;
  const healthzPort = read.integer('healthz-port', 0, 65535);
  const bindAddress = (name: string): BindAddress | undefined => {
    const text = read.text(name);
    return text === undefined ? undefined : read.read(name, () => parseBindAddress(text));
  };
  return {
    etcdEndpoints: etcdEndpoints(read.must('etcd-endpoints')),
    etcdPrefix: read.must('etcd-prefix').replace(/\/+$/, ''),
    etcdCaFile: read.text('etcd-cafile'),
    etcdCertFile: read.text('etcd-certfile'),
    etcdKeyFile: read.text('etcd-keyfile'),
    etcdUsername: read.text('etcd-username'),
    etcdPassword: etcdPassword(read),
    etcdPasswordFile: read.text('etcd-password-file'),
    interfaces: read.list('iface'),
    interfacePatterns: interfacePatterns(read),
    interfaceCanReach: read.anyAddress('iface-can-reach'),
    publicIps: [...read.address('public-ip', 'IPv4'), ...read.address('public-ipv6', 'IPv6')],
    subnetFile: read.must('subnet-file'),
    leaseRenewMarginSeconds: read.integer('subnet-lease-renew-margin', 1, 1439) * 60,
    ipMasq: read.boolean('ip-masq'),
    randomFully: !read.boolean('ip-masq-fully-random-disable'),
    forwardRules: read.boolean('iptables-forward-rules'),
    rulesResyncMs: read.integer('iptables-resync', 1, 86_400) * 1000,
    rules: read.oneOf('rules', rulesWishes),
    vxlanPeersOnly: read.boolean('vxlan-peers-only'),
    blackholeRoute: read.boolean('ip-blackhole-route'),
    kubeSubnetManager: read.boolean('kube-subnet-mgr'),
    kubeApiUrl: read.text('kube-api-url'),
    kubeConfigFile: read.text('kubeconfig-file'),
    kubeletKubeconfigs: read.items('kubelet-kubeconfig'),
    kubeAnnotationPrefix: read.must('kube-annotation-prefix'),
    netConfigPath: read.must('net-config-path'),
    setNodeNetworkUnavailable: read.boolean('set-node-network-unavailable'),
    healthz: healthzPort === 0 ? undefined : healthz(read, healthzPort),
    mesh: mesh(read),
    metrics: bindAddress('metrics-bind-address'),
    page: bindAddress('page-bind-address'),
    pageHosts: read.items('page-host'),
    proxySocket: read.must('proxy-socket'),
    stateDir: read.must('state-dir'),
    cniSocket: read.must('cni-socket'),
    cniDataDir: read.must('cni-data-dir'),
    cniConfDir: read.must('cni-conf-dir'),
    installCniConf: read.text('install-cni-conf'),
    bridge: bridge(read),
    resyncMs: read.integer('resync', 1, 86_400) * 1000,
    txChecksumOffload: read.oneOf('tx-checksum-offload', checksumOffloads),
    logLevel: verbose ? 'debug' : read.oneOf('log-level', logLevels),
    logFormat: read.oneOf('log-format', ['json', 'pretty'] as const),
  };
}
