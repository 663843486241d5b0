import { hostname } from 'node:os';
import { type Family, families, type Prefix, parsePrefix } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { parseDuration } from '../process/duration.ts';
import { type LogFormat, type LogLevel, logLevels } from '../process/log.ts';
import { type NodePortAddresses, servesLoopback } from './plan/nodeport-addresses.ts';
import type { NodeFacts } from './plan/service.ts';

/** The flags of `twill proxy` as commander hands them over; names as in {@link addProxyCommand}. */
export interface ProxyFlags {
  readonly manifests?: string;
  readonly kubeconfig?: string;
  readonly master?: string;
  readonly hostnameOverride?: string;
  readonly proxyMode: string;
  readonly clusterCidr?: string;
  readonly detectLocalMode: string;
  readonly podBridgeInterface?: string;
  readonly podInterfaceNamePrefix?: string;
  readonly masqueradeAll: boolean;
  readonly nodeportAddresses?: string;
  readonly iptablesLocalhostNodeports: string | boolean;
  readonly iptablesSyncPeriod: string;
  readonly iptablesMinSyncPeriod: string;
  readonly healthzBindAddress: string;
  readonly metricsBindAddress: string;
  readonly bindAddressHardFail: string | boolean;
  readonly logLevel: string;
  readonly logFormat: string;
}

/** How a packet from a pod of this cluster is recognised; undefined in a family where it is not. */
export type LocalDetection =
  | { readonly kind: 'cidr'; readonly prefixes: readonly Prefix[] }
  /** By the networks that this node's Node object has for its pods. */
  | { readonly kind: 'node' }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'none' };

export interface ProxyConfig {
  readonly manifests: string | undefined;
  readonly kubeconfig: string | undefined;
  readonly master: string | undefined;
  readonly nodeName: string;
  readonly localDetection: LocalDetection;
  readonly masqueradeAll: boolean;
  readonly nodePortAddresses: NodePortAddresses;
  readonly localhostNodePorts: boolean;
  readonly resyncMs: number;
  readonly minSyncMs: number;
  readonly healthzAddress: string;
  readonly metricsAddress: string;
  /** An address of the two that cannot be served ends the process; otherwise it is tried again. */
  readonly bindAddressHardFail: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

function named<T>(flag: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new TwillError('invalid', `--${flag}: ${describeError(error)}`);
  }
}

function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new TwillError('invalid', `--${flag}: '${value}' is not one of ${allowed.join(', ')}`);
  }
  return found;
}

function prefixes(text: string | undefined): Prefix[] {
  return (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parsePrefix);
}

/** @param longest the kernel's limit for interface names, less what is added to this one */
function interfaceName(flag: string, value: string | undefined, longest: number): string {
  if (!value) throw new TwillError('invalid', `--${flag} must not be empty`);
  if (!/^[A-Za-z0-9_.@-]+$/.test(value) || value.length > longest) {
    throw new TwillError(
      'invalid',
      `--${flag}: '${value}' is not an interface name of at most ${longest} bytes`,
    );
  }
  return value;
}

function clusterNetworks(flags: ProxyFlags): LocalDetection {
  const given = named('cluster-cidr', () => prefixes(flags.clusterCidr));
  for (const family of families) {
    if (given.filter((prefix) => prefix.family === family).length > 1) {
      throw new TwillError('invalid', `--cluster-cidr: more than one ${family.kubeName} network`);
    }
  }
  return given.length === 0 ? { kind: 'none' } : { kind: 'cidr', prefixes: given };
}

/** Flags of modes other than the chosen one are left alone, as kube-proxy does. */
function localDetection(flags: ProxyFlags): LocalDetection {
  const modes = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const;
  switch (oneOf('detect-local-mode', flags.detectLocalMode || 'ClusterCIDR', modes)) {
    case 'ClusterCIDR':
      return clusterNetworks(flags);
    case 'NodeCIDR':
      return { kind: 'node' };
    case 'BridgeInterface':
      return { kind: 'interface', name: interfaceName('pod-bridge-interface', flags.podBridgeInterface, 15) };
    case 'InterfaceNamePrefix': {
      const prefix = interfaceName('pod-interface-name-prefix', flags.podInterfaceNamePrefix, 14);
      return { kind: 'interface', name: `${prefix}+` };
    }
  }
}

/**
 * iptables match for packets from this cluster's pods; undefined where they cannot be told from others.
 * @param facts what is known of this node
 */
export function fromPodMatch(
  detection: LocalDetection,
  family: Family,
  facts: NodeFacts | undefined,
): string | undefined {
  if (detection.kind === 'interface') return `-i ${detection.name}`;
  if (detection.kind === 'none') return undefined;
  const networks = detection.kind === 'cidr' ? detection.prefixes : (facts?.podCIDRs ?? []).map(parsePrefix);
  const prefix = networks.find((candidate) => candidate.family === family);
  return prefix === undefined ? undefined : `-s ${prefix.text}`;
}

function nodePortAddresses(flags: ProxyFlags): NodePortAddresses {
  if (flags.nodeportAddresses?.trim() === 'primary') return 'primary';
  const given = named('nodeport-addresses', () => prefixes(flags.nodeportAddresses));
  return given.length === 0 ? undefined : given;
}

/** @throws TwillError `invalid` naming the flag */
export function proxyConfig(flags: ProxyFlags): ProxyConfig {
  oneOf('proxy-mode', flags.proxyMode || 'iptables', ['iptables']);
  const nodePorts = nodePortAddresses(flags);
  return {
    manifests: flags.manifests || undefined,
    kubeconfig: flags.kubeconfig,
    master: flags.master,
    nodeName: (flags.hostnameOverride ?? hostname()).trim().toLowerCase(),
    localDetection: localDetection(flags),
    masqueradeAll: flags.masqueradeAll,
    nodePortAddresses: nodePorts,
    localhostNodePorts: String(flags.iptablesLocalhostNodeports) !== 'false' && servesLoopback(nodePorts),
    resyncMs: named('iptables-sync-period', () => parseDuration(flags.iptablesSyncPeriod)),
    minSyncMs: named('iptables-min-sync-period', () => parseDuration(flags.iptablesMinSyncPeriod)),
    healthzAddress: flags.healthzBindAddress,
    metricsAddress: flags.metricsBindAddress,
    bindAddressHardFail: String(flags.bindAddressHardFail) === 'true',
    logLevel: oneOf('log-level', flags.logLevel, logLevels),
    logFormat: oneOf('log-format', flags.logFormat, ['json', 'pretty']),
  };
}
