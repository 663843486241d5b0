import * as v from 'valibot';
import { parseAddress } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';
import { unmapped } from '../../model/untrusted.ts';
import type { BridgeOptions } from '../plan/bridge.ts';
import type { Dns } from '../plan/dns.ts';
import type { Bandwidth, HostPortOptions, PortMapping } from '../plan/pod.ts';
import { supportedVersions } from '../plan/protocol.ts';
import type { WantedRange } from '../plan/ranges.ts';
import type { ExtraRoute } from '../plan/wiring.ts';
import {
  configurationWarnings,
  given,
  refuse,
  refuseUnhonoured,
  type UnsupportedField,
  unsupportedField,
} from './refusals.ts';
import { type BridgeOption, type Parsed, schema } from './schema.ts';

type Json = Readonly<Record<string, unknown>>;

/** The network configuration as one call brings it, checked. Unknown fields are ignored, as the specification wants. */
export interface NetConf {
  readonly cniVersion: string;
  /** The network's name: part of what identifies an attachment. */
  readonly name: string;
  /** undefined: the agent's. */
  readonly bridge: string | undefined;
  readonly bridgeOptions: BridgeOptions;
  /** undefined: the overlay's. */
  readonly mtu: number | undefined;
  readonly hairpin: boolean;
  /** Whether the bridge keeps the pod from others of which the same is wanted. */
  readonly isolated: boolean;
  /** Whether frames with another source than the pod's MAC are dropped. */
  readonly macSpoofCheck: boolean;
  /** Whether the pod's IPv6 address is used only when nobody else has answered for it. */
  readonly detectDuplicates: boolean;
  /** False: the pod's interface stays down, without addresses: it is somebody else's to use. */
  readonly containerInterface: boolean;
  readonly defaultRoute: boolean;
  /** Whether the agent masquerades what the pod sends to the outside; undefined leaves it to the agent's --ip-masq. */
  readonly ipMasq: boolean | undefined;
  readonly routes: readonly ExtraRoute[];
  /** Where addresses are to be from: each set stands for one address. */
  readonly ranges: readonly (readonly WantedRange[])[];
  /** Addresses that were asked for: by the capability, and by `args`. */
  readonly requestedIps: { readonly runtime: readonly string[]; readonly args: readonly string[] };
  /** The MAC of the pod's interface that was asked for. */
  readonly mac: string | undefined;
  /** Passed on in the result. */
  readonly dns: Dns | undefined;
  /** The file to take it from where it is not given. */
  readonly resolvConf: string | undefined;
  readonly portMappings: readonly PortMapping[];
  readonly hostPortOptions: HostPortOptions | undefined;
  readonly bandwidth: Bandwidth | undefined;
  readonly prevResult: unknown;
  /** The attachments of this network that still exist; only GC has them. */
  readonly validAttachments: readonly { readonly containerID: string; readonly ifname: string }[] | undefined;
  /** flannel's subnet file, where one is named. */
  readonly subnetFile: string | undefined;
  /** What is to be said once in the log. */
  readonly warnings: readonly string[];
}

/** The version a configuration names; 0.1.0, the specification's default, when it names none. */
export function configVersion(config: Json): string {
  const version = goField(config, 'cniVersion') ?? '';
  if (typeof version !== 'string') throw new TwillError('invalid', 'cniVersion must be a string');
  return version === '' ? '0.1.0' : version;
}

export function isSupportedVersion(version: string): boolean {
  return supportedVersions.some((known) => known === version);
}

/** An option of the bridge plugin: flannel's place for it comes first. */
function option<K extends BridgeOption>(parsed: Parsed, name: K): Exclude<Parsed[K], null> {
  return ((parsed.delegate?.[name] as Parsed[K]) ?? parsed[name] ?? undefined) as Exclude<Parsed[K], null>;
}

function bridgeOptions(parsed: Parsed): Pick<NetConf, 'bridgeOptions' | 'hairpin' | 'defaultRoute'> {
  const defaultGateway = option(parsed, 'isDefaultGateway');
  const gateway = option(parsed, 'isGateway');
  const promiscuous = option(parsed, 'promiscMode') ?? false;
  const hairpin = option(parsed, 'hairpinMode');
  if (promiscuous && hairpin === true)
    refuse('promiscMode', true, 'with hairpinMode a bridge would deliver frames twice; set one of them');
  const forceAddress = option(parsed, 'forceAddress');
  return {
    bridgeOptions: { gateway: defaultGateway === true || gateway !== false, promiscuous, forceAddress },
    hairpin: hairpin ?? !promiscuous,
    defaultRoute: defaultGateway ?? gateway ?? true,
  };
}

/** One that is empty is none. */
const addressText = (text: string | null | undefined): string | undefined =>
  text ? unmapped(parseAddress(text)).text : undefined;

function wantedRanges(parsed: Parsed): NetConf['ranges'] {
  const { ipam } = parsed;
  type Given = NonNullable<NonNullable<NonNullable<typeof ipam>['ranges']>[number]>[number];
  const wanted = (field: string, { subnet, rangeStart, rangeEnd, gateway }: Given): WantedRange => ({
    field,
    subnet: subnet || undefined,
    rangeStart: addressText(rangeStart),
    rangeEnd: addressText(rangeEnd),
    gateway: addressText(gateway),
  });
  const fromRuntime = parsed.runtimeConfig?.ipRanges ?? [];
  if (fromRuntime.length > 0)
    return fromRuntime.map((set) => (set ?? []).map((range) => wanted('runtimeConfig.ipRanges', range)));
  const single = ipam === undefined || ipam === null ? [] : [[wanted('ipam', ipam)]];
  const sets = (ipam?.ranges ?? []).map((set) => (set ?? []).map((range) => wanted('ipam.ranges', range)));
  return [...single, ...sets];
}

function extraRoutes(parsed: Parsed): ExtraRoute[] {
  return (parsed.ipam?.routes ?? []).map(({ dst, gw, mtu, advmss, priority, table, scope }) => ({
    dst,
    gw: addressText(gw),
    mtu: mtu || undefined,
    advmss: advmss || undefined,
    priority: priority || undefined,
    table: table ?? undefined,
    scope: scope ?? undefined,
  }));
}

function parsePortMappings(parsed: Parsed): NetConf['portMappings'] {
  const mappings = parsed.runtimeConfig?.portMappings ?? [];
  return mappings
    .filter(({ hostPort }) => (hostPort ?? 0) !== 0) // Kubernetes' way to say: no host port
    .map(({ hostPort, containerPort, protocol, hostIP }) => ({
      hostPort: hostPort ?? 0,
      containerPort:
        containerPort || refuse('runtimeConfig.portMappings.containerPort', 0, 'no port has this number'),
      protocol: (protocol || 'tcp') as 'tcp' | 'udp' | 'sctp',
      ...(hostIP ? { hostIP: addressText(hostIP) } : {}),
    }));
}

function hostPortOptions(parsed: Parsed): HostPortOptions | undefined {
  const { snat, masqAll, markMasqBit, conditionsV4, conditionsV6 } = parsed;
  const options: HostPortOptions = {
    ...(snat === false ? { snat } : {}),
    ...(masqAll === true ? { masqAll } : {}),
    ...(typeof markMasqBit === 'number' ? { markMasqBit } : {}),
    ...(conditionsV4?.length ? { conditionsV4 } : {}),
    ...(conditionsV6?.length ? { conditionsV6 } : {}),
  };
  return Object.keys(options).length === 0 ? undefined : options;
}

/** The bandwidth plugin takes what stands in the configuration instead of what the runtime sends. */
function parseBandwidth(parsed: Parsed): NetConf['bandwidth'] {
  const names = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst'] as const;
  const limits = (of: Partial<Record<(typeof names)[number], unknown>>): Bandwidth =>
    Object.fromEntries(names.filter((name) => Number(of[name] ?? 0) > 0).map((name) => [name, of[name]]));
  const fixed = names.some((name) => (parsed[name] ?? undefined) !== undefined);
  const found = limits(fixed ? parsed : (parsed.runtimeConfig?.bandwidth ?? {}));
  return Object.keys(found).length === 0 ? undefined : found;
}

function parseDns(parsed: Parsed): Dns | undefined {
  const { servers, searches, options } = parsed.runtimeConfig?.dns ?? {};
  const fromRuntime = {
    ...(servers?.length ? { nameservers: servers } : {}),
    ...(searches?.length ? { search: searches } : {}),
    ...(options?.length ? { options } : {}),
  };
  const own = Object.entries(parsed.dns ?? {}).filter(([, value]) => given(value));
  const found = { ...Object.fromEntries(own), ...fromRuntime };
  return Object.keys(found).length === 0 ? undefined : found;
}

/** null is Go's empty list: no attachment is valid. Only a key that is not there leaves open which are. */
function validAttachments(parsed: Parsed): NetConf['validAttachments'] {
  const given = [parsed['cni.dev/valid-attachments'], parsed['cni.dev/attachments']];
  return given.find((list) => (list ?? undefined) !== undefined) ?? (given.includes(null) ? [] : undefined);
}

function containerInterface(parsed: Parsed): boolean {
  if (option(parsed, 'disableContainerInterface') !== true) return true;
  const { ipam, runtimeConfig, args } = parsed;
  const addresses = [
    ['ipam', Object.values(ipam ?? {}).some(given)],
    ['runtimeConfig.ips', given(runtimeConfig?.ips)],
    ['runtimeConfig.ipRanges', given(runtimeConfig?.ipRanges)],
    ['args.cni.ips', given(args?.cni?.ips)],
  ] as const;
  for (const [field, isGiven] of addresses)
    if (isGiven)
      refuse(
        'disableContainerInterface',
        true,
        `an interface that stays down has no addresses; leave ${field} out`,
      );
  return false;
}

/**
 * Checks a configuration, one written for the flannel plugin included: its `delegate` holds the bridge's options.
 * @returns the configuration, or the field that is understood and refused
 * @throws TwillError `invalid` naming the field
 */
export function parseNetConf(config: Json): NetConf | UnsupportedField {
  const checked = v.safeParse(schema, config, { abortEarly: true });
  if (!checked.success) {
    const [issue] = checked.issues;
    const field = v.getDotPath(issue) ?? '';
    throw new TwillError('invalid', `network configuration: ${field}: ${issue.message}`);
  }
  const parsed = checked.output;
  const unsupported = unsupportedField(parsed);
  if (unsupported !== undefined) return unsupported;
  refuseUnhonoured(parsed);
  const { runtimeConfig, args } = parsed;
  return {
    cniVersion: configVersion(config),
    name: parsed.name,
    bridge: option(parsed, 'bridge') || undefined,
    ...bridgeOptions(parsed),
    mtu: option(parsed, 'mtu') || undefined,
    isolated: option(parsed, 'portIsolation') ?? false,
    macSpoofCheck: option(parsed, 'macspoofchk') ?? false,
    detectDuplicates: option(parsed, 'enabledad') ?? false,
    containerInterface: containerInterface(parsed),
    ipMasq: option(parsed, 'ipMasq'),
    routes: extraRoutes(parsed),
    ranges: wantedRanges(parsed),
    requestedIps: { runtime: runtimeConfig?.ips ?? [], args: args?.cni?.ips ?? [] },
    mac: runtimeConfig?.mac || args?.cni?.mac || undefined,
    dns: parseDns(parsed),
    resolvConf: parsed.ipam?.resolvConf || undefined,
    portMappings: parsePortMappings(parsed),
    hostPortOptions: hostPortOptions(parsed),
    bandwidth: parseBandwidth(parsed),
    prevResult: parsed.prevResult ?? undefined,
    validAttachments: validAttachments(parsed),
    subnetFile: parsed.subnetFile || undefined,
    warnings: configurationWarnings(config, parsed),
  };
}
