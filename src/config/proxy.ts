import { hostname } from 'node:os';
import { type Family, families, ipv4, type Prefix, parsePrefix } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import { parseDuration } from './duration.ts';
import { type LogFormat, type LogLevel, logLevels } from './log.ts';

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
  readonly logLevel: string;
  readonly logFormat: string;
}

/** How a packet from a pod of this cluster is recognised; undefined in a family where it is not. */
export type LocalDetection =
  | { readonly kind: 'cidr'; readonly prefixes: readonly Prefix[] }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'none' };

export interface ProxyConfig {
  readonly manifests: string | undefined;
  readonly kubeconfig: string | undefined;
  readonly master: string | undefined;
  readonly nodeName: string;
  readonly localDetection: LocalDetection;
  readonly masqueradeAll: boolean;
  /** undefined: all addresses of the node; `primary`: those its Node object names. */
  readonly nodePortAddresses: readonly Prefix[] | 'primary' | undefined;
  readonly localhostNodePorts: boolean;
  readonly resyncMs: number;
  readonly minSyncMs: number;
  readonly healthzAddress: string;
  readonly metricsAddress: string;
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

function interfaceName(flag: string, value: string | undefined): string {
  if (value === undefined || !/^[A-Za-z0-9_.@-]{1,15}$/.test(value)) {
    throw new TwillError('invalid', `--${flag}: '${value ?? ''}' is not an interface name`);
  }
  return value;
}

function localDetection(flags: ProxyFlags): LocalDetection {
  const modes = ['ClusterCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const;
  const mode = oneOf('detect-local-mode', flags.detectLocalMode, modes);
  if (mode === 'BridgeInterface') {
    return { kind: 'interface', name: interfaceName('pod-bridge-interface', flags.podBridgeInterface) };
  }
  if (mode === 'InterfaceNamePrefix') {
    const prefix = interfaceName('pod-interface-name-prefix', flags.podInterfaceNamePrefix);
    return { kind: 'interface', name: `${prefix}+` };
  }
  const given = named('cluster-cidr', () => prefixes(flags.clusterCidr));
  return given.length === 0 ? { kind: 'none' } : { kind: 'cidr', prefixes: given };
}

/** iptables match for packets from this cluster's pods; undefined where they cannot be told from others. */
export function fromPodMatch(detection: LocalDetection, family: Family): string | undefined {
  if (detection.kind === 'interface') return `-i ${detection.name}`;
  if (detection.kind === 'none') return undefined;
  const prefix = detection.prefixes.find((candidate) => candidate.family === family);
  return prefix === undefined ? undefined : `-s ${prefix.text}`;
}

function nodePortAddresses(flags: ProxyFlags): ProxyConfig['nodePortAddresses'] {
  if (flags.nodeportAddresses?.trim() === 'primary') return 'primary';
  const given = named('nodeport-addresses', () => prefixes(flags.nodeportAddresses));
  return given.length === 0 ? undefined : given;
}

function servesLoopback(addresses: ProxyConfig['nodePortAddresses']): boolean {
  if (addresses === undefined) return true;
  if (addresses === 'primary') return false;
  return addresses.some(
    (prefix) => prefix.family === ipv4 && (prefix.length === 0 || prefix.text.startsWith('127.')),
  );
}

/** @throws TwillError `invalid` naming the flag */
export function proxyConfig(flags: ProxyFlags): ProxyConfig {
  oneOf('proxy-mode', flags.proxyMode, ['iptables']);
  const detection = localDetection(flags);
  if (detection.kind === 'cidr') {
    for (const family of families) {
      if (detection.prefixes.filter((prefix) => prefix.family === family).length > 1) {
        throw new TwillError('invalid', `--cluster-cidr: more than one ${family.kubeName} network`);
      }
    }
  }
  const nodePorts = nodePortAddresses(flags);
  return {
    manifests: flags.manifests || undefined,
    kubeconfig: flags.kubeconfig,
    master: flags.master,
    nodeName: (flags.hostnameOverride ?? hostname()).trim().toLowerCase(),
    localDetection: detection,
    masqueradeAll: flags.masqueradeAll,
    nodePortAddresses: nodePorts,
    localhostNodePorts: String(flags.iptablesLocalhostNodeports) !== 'false' && servesLoopback(nodePorts),
    resyncMs: named('iptables-sync-period', () => parseDuration(flags.iptablesSyncPeriod)),
    minSyncMs: named('iptables-min-sync-period', () => parseDuration(flags.iptablesMinSyncPeriod)),
    healthzAddress: flags.healthzBindAddress,
    metricsAddress: flags.metricsBindAddress,
    logLevel: oneOf('log-level', flags.logLevel, logLevels),
    logFormat: oneOf('log-format', flags.logFormat, ['json', 'pretty']),
  };
}
