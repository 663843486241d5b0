import * as v from 'valibot';
import { isUnicastMac, parseAddress, parseMac, parsePrefix } from '../../model/address.ts';
import { goFields } from '../../model/go-json.ts';

type Json = Readonly<Record<string, unknown>>;

/** CNI specification, section 1: "Must start with an alphanumeric character, optionally followed by …". */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What keeps a name from being a device's, if anything (CNI specification, section 2, "Parameters", and the kernel). */
export function interfaceNameProblem(name: string): string | undefined {
  if (name === '.' || name === '..') return 'must not be . or ..';
  // What stands for the settings of all devices in /proc/sys/net is no device.
  if (name === 'all' || name === 'default') return `must not be ${name}: the kernel has no such device`;
  if (new TextEncoder().encode(name).length > 15) return 'must have at most 15 characters';
  // Of a name with % the kernel makes another one: eth%d would be eth0.
  if (/[/:%\s]/.test(name)) return 'must not contain /, :, % or white space';
  return undefined;
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

const network = parses(parsePrefix, 'a network in CIDR notation');
/** Go's zero address, and its zero network, are written as empty texts. */
const orEmpty = (schema: ReturnType<typeof parses>) => v.union([v.literal(''), schema]);
const address = orEmpty(parses(parseAddress, 'an IP address'));
const mac = orEmpty(parses(parseDeviceMac, 'the MAC address of a device'));
const interfaceName = v.pipe(
  v.string(),
  v.check((name) => interfaceNameProblem(name) === undefined, 'must be a device’s name'),
);
const u16 = whole(0, 0xffff);
const u32 = whole(0, 0xffff_ffff);
/** Go's uint64, as near as a number of JSON's is read. */
const u64 = whole(0, 2 ** 64);
/** Some runtimes write null, or an empty list, for what they have nothing of. */
const optional = <T extends v.GenericSchema>(schema: T) => v.nullish(schema);
const flag = optional(v.boolean());
const texts = optional(v.array(v.string()));

/** A JSON object that Go programs write and read: the names of its fields are matched as they match them. */
const struct = <T extends v.ObjectEntries>(entries: T) =>
  v.pipe(
    v.unknown(),
    v.check((value) => !Array.isArray(value), 'must be an object, and is a list'),
    v.transform((value) => (isObject(value) ? goFields(value, Object.keys(entries)) : value)),
    v.object(entries),
  );

const portMappingEntries = {
  hostPort: optional(u16),
  containerPort: optional(u16),
  protocol: optional(
    v.pipe(v.string(), v.toLowerCase(), v.picklist(['', 'tcp', 'udp', 'sctp'], 'must be tcp, udp or sctp')),
  ),
  hostIP: optional(address),
};

export const bandwidthEntries = {
  ingressRate: optional(u64),
  ingressBurst: optional(u64),
  egressRate: optional(u64),
  egressBurst: optional(u64),
};

const routeEntries = {
  dst: network,
  gw: optional(address),
  mtu: optional(u16),
  advmss: optional(u16),
  priority: optional(u32),
  table: optional(u32),
  scope: optional(whole(0, 255)),
};

const rangeEntries = {
  subnet: optional(orEmpty(network)),
  rangeStart: optional(address),
  rangeEnd: optional(address),
  gateway: optional(address),
};

const ranges = optional(v.array(optional(v.array(struct(rangeEntries)))));

const ipamEntries = {
  ...rangeEntries,
  type: optional(v.string()),
  ranges,
  routes: optional(v.array(struct(routeEntries))),
  resolvConf: optional(v.string()),
  dataDir: optional(v.string()),
};

/** Options of the bridge plugin, which a configuration for flannel has in `delegate`. */
const bridgeEntries = {
  bridge: optional(v.union([v.literal(''), interfaceName])),
  mtu: optional(u16),
  hairpinMode: flag,
  isGateway: flag,
  isDefaultGateway: flag,
  ipMasq: flag,
  ipMasqBackend: optional(v.string()),
  forceAddress: flag,
  promiscMode: flag,
  vlan: optional(u64),
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

const dnsEntries = { nameservers: texts, domain: optional(v.string()), search: texts, options: texts };
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
  dns: optional(struct(dnsEntries)),
  capabilities: optional(v.record(v.string(), v.unknown())),
  runtimeConfig: optional(struct(runtimeEntries)),
  args: optional(struct({ cni: optional(struct(argsEntries)) })),
  prevResult: optional(v.custom<Json>(isObject, 'must be an object')),
  'cni.dev/valid-attachments': attachments,
  'cni.dev/attachments': attachments,
};

export const schema = struct(entries);
export type Parsed = v.InferOutput<typeof schema>;
export type BridgeOption = keyof typeof bridgeEntries;

const common = ['cniVersions', 'type', 'socket', 'timeoutSeconds'];
const library = ['plugins', 'disableCheck', 'disableGC', 'loadOnlyInlinedPlugins'];
const nameList = (of: object): readonly string[] => Object.keys(of);

/** The names of fields that have a meaning, by where they stand. A list stands for each of its items. */
export const fieldNames: Readonly<Record<string, readonly string[]>> = {
  '': [...nameList(entries), ...common, ...library],
  delegate: nameList(delegateEntries),
  ipam: nameList(ipamEntries),
  dns: nameList(dnsEntries),
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
