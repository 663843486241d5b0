import { hostname } from 'node:os';
import {
  type Address,
  type Family,
  families,
  ipv4,
  type Prefix,
  parsePrefix,
  withoutLeadingZeros,
} from '../model/address.ts';
import { kubeAddress, kubeNetwork } from '../model/untrusted.ts';
import { type BindAddress, parseBindAddress } from '../process/bind-address.ts';
import { type FlagReader, goBoolean } from '../process/flag-reader.ts';
import { type LogFormat, type LogLevel, logLevels } from '../process/log.ts';
import type { ConntrackWishes } from './plan/conntrack-settings.ts';
import { proxyFlags } from './plan/flags.ts';
import type { ProxyMode } from './plan/mode.ts';
import { type NodePortAddresses, servesLoopback } from './plan/nodeport-addresses.ts';
import type { PodSource } from './plan/pod-source.ts';
import type { ProxyFlag } from './plan/proxy-flag.ts';
import type { NodeFacts } from './plan/service.ts';

/** How a packet from a pod of this cluster is recognised; undefined in a family where it is not. */
export type LocalDetection =
  | { readonly kind: 'cidr'; readonly prefixes: readonly Prefix[] }
  /** By the networks that this node's Node object has for its pods. */
  | { readonly kind: 'node' }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'none' };

export interface ProxyConfig {
  /** What is asked for. */
  readonly wantedMode: ProxyMode | 'auto';
  /** What it comes to; of `auto` iptables until the node has been looked at. */
  readonly mode: ProxyMode;
  /** What is asked for that only mode iptables has, in words. */
  readonly onlyIptables: string | undefined;
  readonly manifests: string | undefined;
  readonly kubeconfig: string | undefined;
  readonly master: string | undefined;
  readonly kubeletKubeconfigs: readonly string[];
  readonly nodeName: string;
  /** The node's address, where it is told. */
  readonly bindAddress: Address | undefined;
  readonly localDetection: LocalDetection;
  readonly masqueradeAll: boolean;
  readonly nodePortAddresses: NodePortAddresses;
  readonly localhostNodePorts: boolean;
  readonly resyncMs: number;
  readonly minSyncMs: number;
  /** A change that is not in the rules for so long is not healthy: twice the sync period, as with kube-proxy. */
  readonly healthTimeoutMs: number;
  readonly conntrack: ConntrackWishes;
  readonly oomScoreAdj: number;
  readonly healthzAddress: BindAddress | undefined;
  readonly metricsAddress: BindAddress | undefined;
  /** An address of the two that cannot be served ends the process; otherwise it is tried again. */
  readonly bindAddressHardFail: boolean;
  /** Where inspection commands ask; undefined for nowhere. */
  readonly inspectSocket: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

function prefixes(texts: readonly string[]): Prefix[] {
  return texts
    .flatMap((text) => text.split(','))
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(kubeNetwork);
}

/** @param longest the kernel's limit for interface names, less what is added to this one */
function interfaceName(read: FlagReader, flag: string, longest: number): string {
  const value = read.must(flag);
  if (!/^[A-Za-z0-9_.@-]+$/.test(value) || value.length > longest)
    throw read.refuse(flag, `'${value}' is not an interface name of at most ${longest} bytes`);
  return value;
}

function clusterNetworks(read: FlagReader): LocalDetection {
  const given = read.read('cluster-cidr', () => prefixes([read.text('cluster-cidr') ?? '']));
  for (const family of families) {
    if (given.filter((prefix) => prefix.family === family).length > 1)
      throw read.refuse('cluster-cidr', `has more than one ${family.kubeName} network`);
  }
  return given.length === 0 ? { kind: 'none' } : { kind: 'cidr', prefixes: given };
}

/** Flags of modes other than the chosen one are left alone, as kube-proxy does. */
function localDetection(read: FlagReader): LocalDetection {
  const modes = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const;
  switch (read.oneOf('detect-local-mode', modes)) {
    case 'ClusterCIDR':
      return clusterNetworks(read);
    case 'NodeCIDR':
      return { kind: 'node' };
    case 'BridgeInterface':
      return { kind: 'interface', name: interfaceName(read, 'pod-bridge-interface', 15) };
    case 'InterfaceNamePrefix':
      return { kind: 'interface', name: `${interfaceName(read, 'pod-interface-name-prefix', 14)}+` };
  }
}

/**
 * Where packets from this cluster's pods come from; undefined where they cannot be told from others.
 * @param facts what is known of this node
 */
export function podSource(
  detection: LocalDetection,
  family: Family,
  facts: NodeFacts | undefined,
): PodSource | undefined {
  if (detection.kind === 'interface') return { device: detection.name };
  if (detection.kind === 'none') return undefined;
  const networks = detection.kind === 'cidr' ? detection.prefixes : (facts?.podCIDRs ?? []).map(parsePrefix);
  const prefix = networks.find((candidate) => candidate.family === family);
  return prefix && { network: prefix.text };
}

/** iptables match for packets from this cluster's pods. */
export function fromPodMatch(...of: Parameters<typeof podSource>): string | undefined {
  const source = podSource(...of);
  if (source === undefined) return undefined;
  return 'network' in source ? `-s ${source.network}` : `-i ${source.device}`;
}

/** In mode nftables kube-proxy takes the node's primary addresses unless told otherwise; files have no Node to name them. */
function nodePortAddresses(read: FlagReader, mode: ProxyMode): NodePortAddresses {
  const given = read.items('nodeport-addresses');
  if (given.length === 1 && given[0] === 'primary') return 'primary';
  if (given.includes('primary'))
    throw read.refuse('nodeport-addresses', "has both 'primary' and networks: give one of them");
  const networks = read.read('nodeport-addresses', () => prefixes(given));
  if (networks.length > 0) return networks;
  return mode === 'nftables' && read.text('manifests') === undefined ? 'primary' : undefined;
}

function bindAddress(read: FlagReader): Address {
  const text = read.must('bind-address');
  const address = kubeAddress(text);
  if (address === undefined) throw read.refuse('bind-address', `'${text}' is not an IP address`);
  return address;
}

/** 0 in the flag is refused and in the file, where it cannot be told from nothing, means the standard: as with kube-proxy. */
function periods(read: FlagReader): Pick<ProxyConfig, 'resyncMs' | 'minSyncMs' | 'healthTimeoutMs'> {
  const resyncMs = read.duration('iptables-sync-period');
  const minSyncMs = read.duration('iptables-min-sync-period');
  if (resyncMs <= 0) throw read.refuse('iptables-sync-period', 'must be greater than 0');
  if (minSyncMs < 0) throw read.refuse('iptables-min-sync-period', 'must not be less than 0');
  if (minSyncMs > resyncMs)
    throw read.refuse(
      'iptables-min-sync-period',
      `is longer than ${read.called('iptables-sync-period')}: it must not be`,
    );
  return {
    resyncMs,
    minSyncMs,
    healthTimeoutMs: 2 * (resyncMs === STANDARD_SYNC_MS ? KUBE_PROXY_SYNC_MS : resyncMs),
  };
}

const STANDARD_SYNC_MS = 300_000;
/** kube-proxy's standard, by which the patience of load balancers and liveness probes is measured. */
const KUBE_PROXY_SYNC_MS = 30_000;

function seconds(read: FlagReader, flag: string): number {
  const ms = read.duration(flag);
  if (ms < 0) throw read.refuse(flag, 'must not be less than 0');
  return Math.trunc(ms / 1000);
}

function conntrackWishes(read: FlagReader): ConntrackWishes {
  return {
    maxPerCore: read.integer('conntrack-max-per-core', 0, MAX_INT32),
    min: read.integer('conntrack-min', 0, MAX_INT32),
    tcpEstablishedSeconds: seconds(read, 'conntrack-tcp-timeout-established'),
    tcpCloseWaitSeconds: seconds(read, 'conntrack-tcp-timeout-close-wait'),
    tcpBeLiberal: read.boolean('conntrack-tcp-be-liberal'),
    udpSeconds: seconds(read, 'conntrack-udp-timeout'),
    udpStreamSeconds: seconds(read, 'conntrack-udp-timeout-stream'),
  };
}

const MAX_INT32 = 2 ** 31 - 1;

/** An address to serve on, with a port: kube-proxy's forms (pkg/util/flag, IPPortVar) and `:PORT`. Empty for nowhere. */
function serverAddress(
  read: FlagReader,
  what: 'healthz' | 'metrics',
  node: Address,
): BindAddress | undefined {
  const flag = `${what}-bind-address`;
  const fallback = what === 'healthz' ? 10_256 : 10_249;
  // Only the flags know the deprecated one, and then 0 turns the server off.
  const port = read.integer(`${what}-port`, 0, 65_535);
  const inFile = read.given('config') !== undefined;
  if (port === 0 && !inFile) return undefined;
  const given = read.given(flag);
  // Of a file alone: flags have their standards whatever the node's address is.
  if (inFile && given === undefined && node.family !== ipv4)
    return parseBindAddress(what === 'healthz' ? '::' : '::1', fallback);
  const text = withoutLeadingZeros(String(given ?? read.must(flag)));
  if (text === '') return undefined;
  const usual = given === undefined || inFile ? fallback : port;
  return read.read(flag, () => parseBindAddress(text, usual));
}

function logLevel(read: FlagReader): LogLevel {
  const verbosity = read.given('v') === undefined ? 0 : read.integer('v', 0, MAX_INT32);
  const level = read.oneOf('log-level', logLevels);
  return verbosity >= 4 && read.given('log-level') === undefined ? 'debug' : level;
}

/** kube-proxy's formats are text and json; what text is here, the flag of our own says. */
function logFormat(read: FlagReader): LogFormat {
  const own = read.oneOf('log-format', ['json', 'pretty'] as const);
  return read.oneOf('logging-format', ['text', 'json'] as const) === 'json' ? 'json' : own;
}

/** What is served in no way here, and what to do without it. */
function refuseUnserved(read: FlagReader): void {
  if (read.boolean('profiling'))
    throw read.refuse(
      'profiling',
      'is not served: leave it out, and see Node’s --cpu-prof and --heapsnapshot-signal in NODE_OPTIONS',
    );
  if (read.integer('iptables-masquerade-bit', 0, 31) !== 14)
    throw read.refuse('iptables-masquerade-bit', 'is 14 here, the mark 0x4000: leave it out');
}

/** Values of flags that change nothing are wrong or right all the same. */
function checkIdle(read: FlagReader, flags: readonly ProxyFlag[]): void {
  for (const { name, kind, idle } of flags) {
    if (idle === undefined || read.given(name) === undefined) continue;
    if (kind === 'boolean') read.boolean(name);
    else if (kind === 'integer') read.integer(name, 0, MAX_INT32);
    else if (kind === 'number') read.number(name);
    else if (kind === 'duration') read.duration(name);
  }
  if (read.given('config-sync-period') !== undefined && read.duration('config-sync-period') <= 0)
    throw read.refuse('config-sync-period', 'must be greater than 0');
  const version = read.text('show-hidden-metrics-for-version');
  if (version !== undefined && !/^\d+\.\d+$/.test(version))
    throw read.refuse('show-hidden-metrics-for-version', `is '${version}', not of the form MAJOR.MINOR`);
  featureGates(read);
  read.boolean('cleanup');
  read.boolean('init-only');
}

/** By name. @throws TwillError `invalid` naming one that is neither on nor off */
export function featureGates(read: FlagReader): Readonly<Record<string, boolean>> {
  const gates = read.items('feature-gates').map((gate) => {
    const [, name, text = ''] = /^(\w+)\s*=\s*(\w+)$/.exec(gate) ?? [];
    const on = goBoolean(text);
    if (name === undefined || on === undefined)
      throw read.refuse('feature-gates', `'${gate}' is not of the form NAME=true or NAME=false`);
    return [name, on] as const;
  });
  return Object.fromEntries(gates);
}

/** Node ports on loopback, where somebody has asked for them: they are there unasked in mode iptables. */
function onlyIptables(read: FlagReader): string | undefined {
  const loopback = read.items('nodeport-addresses').find((text) => text.startsWith('127.'));
  if (loopback !== undefined)
    return `${read.called('nodeport-addresses')} has ${loopback}, and only mode iptables serves that`;
  const flag = 'iptables-localhost-nodeports';
  // Files have every field, as --write-config-to writes them: that says nothing about what somebody wants.
  if (read.given(flag) === undefined || read.called(flag) !== `--${flag}`) return undefined;
  if (!read.boolean(flag)) return undefined;
  return `--${flag} asks for node ports on 127.0.0.1, which only mode iptables serves`;
}

/**
 * @param chosen what `--proxy-mode=auto` comes to, where that is known
 * @throws TwillError `invalid` naming the flag, or the field of the configuration file
 */
export function proxyConfig(read: FlagReader, chosen: ProxyMode = 'iptables'): ProxyConfig {
  refuseUnserved(read);
  checkIdle(read, proxyFlags);
  const wantedMode = read.oneOf('proxy-mode', ['iptables', 'nftables', 'auto'] as const);
  const mode = wantedMode === 'auto' ? chosen : wantedMode;
  const nodePorts = nodePortAddresses(read, mode);
  const node = bindAddress(read);
  const told = ['0.0.0.0', '::'].includes(node.text) ? undefined : node;
  return {
    wantedMode,
    mode,
    onlyIptables: onlyIptables(read),
    manifests: read.text('manifests'),
    kubeconfig: read.text('kubeconfig'),
    master: read.text('master'),
    kubeletKubeconfigs: read.items('kubelet-kubeconfig'),
    nodeName: nodeName(read),
    bindAddress: told,
    localDetection: localDetection(read),
    masqueradeAll: read.boolean('masquerade-all'),
    nodePortAddresses: nodePorts,
    localhostNodePorts:
      mode === 'iptables' && read.boolean('iptables-localhost-nodeports') && servesLoopback(nodePorts),
    ...periods(read),
    conntrack: conntrackWishes(read),
    oomScoreAdj: read.integer('oom-score-adj', -1000, 1000),
    healthzAddress: serverAddress(read, 'healthz', node),
    metricsAddress: serverAddress(read, 'metrics', node),
    bindAddressHardFail: read.boolean('bind-address-hard-fail'),
    inspectSocket: read.must('inspect-socket') === 'none' ? undefined : read.must('inspect-socket'),
    logLevel: logLevel(read),
    logFormat: logFormat(read),
  };
}

function nodeName(read: FlagReader): string {
  const name = (read.text('hostname-override') ?? hostname()).trim().toLowerCase();
  if (name === '') throw read.refuse('hostname-override', 'is empty but for spaces');
  return name;
}
