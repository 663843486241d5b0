import * as v from 'valibot';
import { parseAddress, parsePrefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { goField, goFields } from '../../model/go-json.ts';
import type { Bandwidth, PortMapping } from '../plan/pod.ts';
import { supportedVersions } from '../plan/protocol.ts';

/** CNI specification, section 1: "Must start with an alphanumeric character, optionally followed by …". */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

const parses = (parse: (text: string) => unknown, what: string) =>
  v.pipe(
    v.string(),
    v.check((text) => {
      try {
        parse(text);
        return true;
      } catch {
        return false;
      }
    }, `must be ${what}`),
  );

const address = parses(parseAddress, 'an IP address');
const network = parses(parsePrefix, 'a network in CIDR notation');
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));
const positive = v.pipe(v.number(), v.integer(), v.minValue(0));
/** Some runtimes write null, or an empty list, for what they have nothing of. */
const optional = <T extends v.GenericSchema>(schema: T) => v.nullish(schema);

/** A JSON object that Go programs write and read: the names of its fields are matched as they match them. */
const struct = <T extends v.ObjectEntries>(entries: T) =>
  v.pipe(
    v.unknown(),
    v.transform((value) => (isObject(value) ? goFields(value, Object.keys(entries)) : value)),
    v.object(entries),
  );

const portMapping = struct({
  hostPort: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535)),
  containerPort: port,
  protocol: optional(
    v.pipe(v.string(), v.toLowerCase(), v.picklist(['', 'tcp', 'udp', 'sctp'], 'must be tcp, udp or sctp')),
  ),
  hostIP: optional(v.union([v.literal(''), address])),
});

const bandwidth = struct({
  ingressRate: optional(positive),
  ingressBurst: optional(positive),
  egressRate: optional(positive),
  egressBurst: optional(positive),
});

const route = struct({ dst: network, gw: optional(address) });

const ipam = struct({ type: optional(v.string()), routes: optional(v.array(route)) });

/** Options of the bridge plugin, which a configuration for flannel has in `delegate`. */
const bridgeOptions = {
  bridge: optional(v.pipe(v.string(), v.minLength(1), v.maxLength(15))),
  mtu: optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535))),
  hairpinMode: optional(v.boolean()),
  isDefaultGateway: optional(v.boolean()),
  ipMasq: optional(v.boolean()),
  vlan: optional(positive),
  ipam: optional(ipam),
};

const attachment = struct({ containerID: v.string(), ifname: v.string() });

const schema = struct({
  cniVersion: optional(v.string()),
  name: v.pipe(
    v.string('must be given'),
    v.regex(namePattern, 'must be alphanumeric with _ . and - after the first character'),
  ),
  ...bridgeOptions,
  delegate: optional(struct({ type: optional(v.string()), ...bridgeOptions })),
  dns: optional(v.looseObject({})),
  runtimeConfig: optional(
    struct({
      portMappings: optional(v.array(portMapping)),
      bandwidth: optional(bandwidth),
      ips: optional(v.array(v.string())),
    }),
  ),
  args: optional(struct({ cni: optional(struct({ ips: optional(v.array(v.string())) })) })),
  'cni.dev/valid-attachments': optional(v.array(attachment)),
  'cni.dev/attachments': optional(v.array(attachment)),
});

type Parsed = v.InferOutput<typeof schema>;
type Json = Readonly<Record<string, unknown>>;

export interface ExtraRoute {
  readonly dst: string;
  readonly gw: string | undefined;
}

/** The network configuration as one call brings it, checked. Unknown fields are ignored, as the specification wants. */
export interface NetConf {
  readonly cniVersion: string;
  /** The network's name: part of what identifies an attachment. */
  readonly name: string;
  /** undefined: the agent's. */
  readonly bridge: string | undefined;
  /** undefined: the overlay's. */
  readonly mtu: number | undefined;
  readonly hairpin: boolean;
  readonly defaultRoute: boolean;
  /** True when it asks that traffic of pods to the outside be masqueraded. */
  readonly ipMasq: boolean;
  readonly routes: readonly ExtraRoute[];
  /** Addresses that were asked for. */
  readonly requestedIps: readonly string[];
  /** Whether `args` ask for addresses: the older form of CNI_ARGS is not looked at then (CNI conventions, "args"). */
  readonly ipsInArgs: boolean;
  /** Passed on in the result. */
  readonly dns: Json | undefined;
  readonly portMappings: readonly PortMapping[];
  readonly bandwidth: Bandwidth | undefined;
  readonly prevResult: unknown;
  /** The attachments of this network that still exist; only GC has them. */
  readonly validAttachments: readonly { readonly containerID: string; readonly ifname: string }[] | undefined;
}

/** A field that the specification's code 2 is about: understood, and refused. */
export interface UnsupportedField {
  readonly field: string;
  readonly value: unknown;
  readonly advice: string;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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

function unsupportedField(parsed: Parsed): UnsupportedField | undefined {
  const { delegate } = parsed;
  const kind = delegate?.type ?? '';
  if (kind !== '' && kind !== 'bridge') {
    const advice = 'Twill wires pods to a bridge: leave it out or set bridge';
    return { field: 'delegate.type', value: kind, advice };
  }
  for (const [prefix, options] of [
    ['', parsed],
    ['delegate.', delegate ?? {}],
  ] as const) {
    const { vlan, ipam: addressing } = options as Pick<Parsed, 'vlan' | 'ipam'>;
    if ((vlan ?? 0) !== 0)
      return { field: `${prefix}vlan`, value: vlan, advice: 'Twill has one network per bridge' };
    const type = addressing?.type ?? '';
    if (type !== '' && type !== 'host-local' && type !== 'twill') {
      const advice = 'Twill gives out the addresses of the node’s lease itself: leave it out';
      return { field: `${prefix}ipam.type`, value: type, advice };
    }
  }
  return undefined;
}

function parsePortMappings(parsed: Parsed): NetConf['portMappings'] {
  const mappings = parsed.runtimeConfig?.portMappings ?? [];
  return mappings
    .filter(({ hostPort }) => hostPort !== 0) // Kubernetes' way to say: no host port
    .map(({ hostPort, containerPort, protocol, hostIP }) => ({
      hostPort,
      containerPort,
      protocol: (protocol || 'tcp') as 'tcp' | 'udp' | 'sctp',
      ...(hostIP ? { hostIP } : {}),
    }));
}

function parseBandwidth(parsed: Parsed): NetConf['bandwidth'] {
  const given = parsed.runtimeConfig?.bandwidth;
  const limits = Object.entries(given ?? {}).filter(([, value]) => (value ?? 0) > 0);
  return limits.length === 0 ? undefined : Object.fromEntries(limits);
}

/** null is Go's empty list: no attachment is valid. Only a key that is not there leaves open which are. */
function validAttachments(parsed: Parsed): NetConf['validAttachments'] {
  const given = [parsed['cni.dev/valid-attachments'], parsed['cni.dev/attachments']];
  return given.find((list) => (list ?? undefined) !== undefined) ?? (given.includes(null) ? [] : undefined);
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
  const { delegate } = parsed;
  const option = <K extends keyof typeof bridgeOptions>(name: K): Parsed[K] =>
    (delegate?.[name] as Parsed[K]) ?? parsed[name];
  const routes = [...(parsed.ipam?.routes ?? []), ...(delegate?.ipam?.routes ?? [])];
  return {
    cniVersion: configVersion(config),
    name: parsed.name,
    bridge: option('bridge') ?? undefined,
    mtu: option('mtu') || undefined,
    hairpin: option('hairpinMode') ?? true,
    defaultRoute: option('isDefaultGateway') ?? true,
    ipMasq: option('ipMasq') ?? false,
    routes: routes.map(({ dst, gw }) => ({ dst, gw: gw ?? undefined })),
    requestedIps: [...(parsed.runtimeConfig?.ips ?? []), ...(parsed.args?.cni?.ips ?? [])],
    ipsInArgs: (parsed.args?.cni?.ips ?? []).length > 0,
    dns: parsed.dns ?? undefined,
    portMappings: parsePortMappings(parsed),
    bandwidth: parseBandwidth(parsed),
    prevResult: goField(config, 'prevResult'),
    validAttachments: validAttachments(parsed),
  };
}
