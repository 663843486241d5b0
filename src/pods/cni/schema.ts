import * as v from 'valibot';
import { isUnicastMac, parseAddress, parseMac, parsePrefix } from '../../model/address.ts';
import { goFields } from '../../model/go-json.ts';

type Json = Readonly<Record<string, unknown>>;

/** CNI specification, section 1: "Must start with an alphanumeric character, optionally followed by …". */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @throws Error when it is none, or a group's */
export function parseDeviceMac(text: string): string {
  const mac = parseMac(text);
  if (!isUnicastMac(mac)) throw new Error(`${text} is no device's`);
  return mac;
}

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

const whole = (least: number, most: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));

const address = parses(parseAddress, 'an IP address');
const network = parses(parsePrefix, 'a network in CIDR notation');
const mac = v.union([v.literal(''), parses(parseDeviceMac, 'the MAC address of a device')]);
const interfaceName = v.pipe(
  v.string(),
  v.maxLength(15),
  v.regex(/^(?!\.{1,2}$)[^/:\s%]+$/, 'must be a device’s name'),
);
const u16 = whole(0, 0xffff);
const u32 = whole(0, 0xffff_ffff);
const positive = v.pipe(v.number(), v.integer(), v.minValue(0));
/** Some runtimes write null, or an empty list, for what they have nothing of. */
const optional = <T extends v.GenericSchema>(schema: T) => v.nullish(schema);
const flag = optional(v.boolean());
const texts = optional(v.array(v.string()));

/** A JSON object that Go programs write and read: the names of its fields are matched as they match them. */
const struct = <T extends v.ObjectEntries>(entries: T) =>
  v.pipe(
    v.unknown(),
    v.transform((value) => (isObject(value) ? goFields(value, Object.keys(entries)) : value)),
    v.object(entries),
  );

const portMappingEntries = {
  hostPort: optional(u16),
  containerPort: optional(u16),
  protocol: optional(
    v.pipe(v.string(), v.toLowerCase(), v.picklist(['', 'tcp', 'udp', 'sctp'], 'must be tcp, udp or sctp')),
  ),
  hostIP: optional(v.union([v.literal(''), address])),
};

const bandwidthEntries = {
  ingressRate: optional(positive),
  ingressBurst: optional(positive),
  egressRate: optional(positive),
  egressBurst: optional(positive),
};

const routeEntries = {
  dst: network,
  gw: optional(v.union([v.literal(''), address])),
  mtu: optional(u16),
  advmss: optional(u16),
  priority: optional(u32),
  table: optional(u32),
  scope: optional(whole(0, 255)),
};

const rangeEntries = {
  subnet: optional(network),
  rangeStart: optional(address),
  rangeEnd: optional(address),
  gateway: optional(address),
};

const ranges = optional(v.array(v.array(struct(rangeEntries))));

const ipamEntries = {
  ...rangeEntries,
  type: optional(v.string()),
  ranges,
  routes: optional(v.array(struct(routeEntries))),
  resolvConf: optional(v.string()),
  dataDir: optional(v.string()),
};

/** Options of the bridge plugin, which a configuration for flannel has in `delegate`. */
export const bridgeEntries = {
  bridge: optional(v.union([v.literal(''), interfaceName])),
  mtu: optional(u16),
  hairpinMode: flag,
  isGateway: flag,
  isDefaultGateway: flag,
  ipMasq: flag,
  ipMasqBackend: optional(v.string()),
  forceAddress: flag,
  promiscMode: flag,
  vlan: optional(positive),
  vlanTrunk: optional(v.unknown()),
  preserveDefaultVlan: flag,
  macspoofchk: flag,
  enabledad: flag,
  disableContainerInterface: flag,
  portIsolation: flag,
};

const delegateEntries = {
  type: optional(v.string()),
  name: optional(v.unknown()),
  ipam: optional(v.unknown()),
  ...bridgeEntries,
};

/** Options of the portmap plugin. */
const hostPortEntries = {
  snat: flag,
  masqAll: flag,
  markMasqBit: optional(whole(0, 31)),
  conditionsV4: texts,
  conditionsV6: texts,
  externalSetMarkChain: optional(v.string()),
  backend: optional(v.string()),
};

const runtimeDnsEntries = { servers: texts, searches: texts, options: texts };
const argsEntries = { ips: texts, mac: optional(mac) };

const runtimeEntries = {
  portMappings: optional(v.array(struct(portMappingEntries))),
  bandwidth: optional(struct(bandwidthEntries)),
  ips: texts,
  ipRanges: ranges,
  mac: optional(mac),
  dns: optional(struct(runtimeDnsEntries)),
  deviceID: optional(v.unknown()),
  infinibandGUID: optional(v.unknown()),
};

const attachments = optional(v.array(struct({ containerID: v.string(), ifname: v.string() })));

const entries = {
  cniVersion: optional(v.string()),
  name: v.pipe(
    v.string('must be given'),
    v.regex(namePattern, 'must be alphanumeric with _ . and - after the first character'),
  ),
  ...bridgeEntries,
  ...hostPortEntries,
  ...bandwidthEntries,
  shapedSubnets: optional(v.unknown()),
  unshapedSubnets: optional(v.unknown()),
  ipam: optional(struct(ipamEntries)),
  delegate: optional(struct(delegateEntries)),
  subnetFile: optional(v.string()),
  dataDir: optional(v.string()),
  dns: optional(v.looseObject({})),
  capabilities: optional(v.record(v.string(), v.unknown())),
  runtimeConfig: optional(struct(runtimeEntries)),
  args: optional(struct({ cni: optional(struct(argsEntries)) })),
  'cni.dev/valid-attachments': attachments,
  'cni.dev/attachments': attachments,
};

export const schema = struct(entries);
export type Parsed = v.InferOutput<typeof schema>;
export type BridgeOption = keyof typeof bridgeEntries;

const common = ['cniVersions', 'type', 'prevResult', 'socket', 'timeoutSeconds'];
const library = ['plugins', 'disableCheck', 'disableGC', 'loadOnlyInlinedPlugins'];
const nameList = (of: object): readonly string[] => Object.keys(of);

/** The names of fields that have a meaning, by where they stand. A list stands for each of its items. */
export const fieldNames: Readonly<Record<string, readonly string[]>> = {
  '': [...nameList(entries), ...common, ...library],
  delegate: nameList(delegateEntries),
  ipam: nameList(ipamEntries),
  'ipam.routes': nameList(routeEntries),
  'ipam.ranges': nameList(rangeEntries),
  runtimeConfig: nameList(runtimeEntries),
  'runtimeConfig.portMappings': nameList(portMappingEntries),
  'runtimeConfig.bandwidth': nameList(bandwidthEntries),
  'runtimeConfig.ipRanges': nameList(rangeEntries),
  'runtimeConfig.dns': nameList(runtimeDnsEntries),
  args: ['cni'],
  'args.cni': nameList(argsEntries),
};
