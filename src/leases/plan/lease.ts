import {
  type Address,
  type Family,
  ipv4,
  ipv6,
  isUnicast,
  isUnicastMac,
  makePrefix,
  type Prefix,
  parseAddress,
  parseMac,
} from '../../model/address.ts';
import { describeError, TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';

/** One family's share of a node's lease. */
export interface LeaseFamily {
  readonly family: Family;
  /** The node's pod subnet. */
  readonly subnet: Prefix;
  /** Where other nodes send encapsulated (VXLAN) or plain (host-gw) packets to. */
  readonly publicIp: Address;
  /** MAC address of the node's VXLAN device; undefined for other backends. */
  readonly vtepMac: string | undefined;
}

/**
 * When a lease was made and when it was last written, as its source counts (revisions in etcd, seconds with Kubernetes):
 * what is lower was first. Every node reads the same.
 */
export interface LeaseOrder {
  readonly created: number;
  readonly changed: number;
}

/** Of a lease that is not in the source yet. */
export const noOrder: LeaseOrder = { created: 0, changed: 0 };

/** What one node told the others about itself. At most one entry a family, IPv4 first. */
export interface Lease {
  /** What people call it: the last part of the etcd key, or the Kubernetes node's name. */
  readonly name: string;
  /** `vxlan`, `host-gw`, `alloc`, or another flannel backend that we do not speak. */
  readonly backend: string;
  readonly vni: number | undefined;
  readonly families: readonly LeaseFamily[];
  readonly order: LeaseOrder;
  /** Its source says something else, or nothing, since a moment ago: another may be this same node's. */
  readonly leaving?: boolean;
}

export const subnetsOf = (lease: Lease): Prefix[] => lease.families.map(({ subnet }) => subnet);

export function leaseFamily(lease: Lease, family: Family): LeaseFamily | undefined {
  return lease.families.find((entry) => entry.family === family);
}

/** True when both say the same about every family, whenever they said it. */
export function sameLease(a: Lease, b: Lease): boolean {
  return (
    a.backend === b.backend &&
    a.vni === b.vni &&
    a.families.length === b.families.length &&
    a.families.every((left) => {
      const right = leaseFamily(b, left.family);
      return (
        right !== undefined &&
        left.subnet.text === right.subnet.text &&
        left.publicIp.text === right.publicIp.text &&
        left.vtepMac === right.vtepMac
      );
    })
  );
}

/** What flannel writes for "no IPv4 subnet" on an IPv6-only cluster. */
export const noIpv4Subnet = '0.0.0.0-0';

const namePattern = /^(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/;

/**
 * The last part of a lease's etcd key, as flannel writes it: `10.244.7.0-24`, or with IPv6
 * `10.244.7.0-24&fd00:7::-64`.
 */
export function leaseKeyName(subnets: readonly Prefix[]): string {
  const part = (prefix: Prefix): string => `${prefix.address.text}-${prefix.length}`;
  const v4 = subnets.find((subnet) => subnet.family === ipv4);
  const v6 = subnets.find((subnet) => subnet.family === ipv6);
  const first = v4 === undefined ? noIpv4Subnet : part(v4);
  return v6 === undefined ? first : `${first}&${part(v6)}`;
}

function parseSubnet(address: string, length: string): Prefix {
  const host = parseAddress(address);
  const prefix = makePrefix(host, Number(length));
  if (prefix.address !== host) throw new TwillError('invalid', `${host.text}/${length} has host bits set`);
  return prefix;
}

/** The inverse of {@link leaseKeyName}, IPv4 first. @throws TwillError `invalid` naming the key */
export function parseLeaseKeyName(name: string): Prefix[] {
  const [, v4, v4Length, v6, v6Length] = namePattern.exec(name) ?? [];
  if (v4 === undefined || v4Length === undefined)
    throw new TwillError('invalid', `subnet key '${name}' is not of the form 10.244.7.0-24`);
  try {
    const subnets: Prefix[] = [];
    if (`${v4}-${v4Length}` !== noIpv4Subnet) subnets.push(parseSubnet(v4, v4Length));
    if (v6 !== undefined && v6Length !== undefined) subnets.push(parseSubnet(v6, v6Length));
    if (subnets.length === 0) throw new TwillError('invalid', 'it names no subnet');
    return subnets;
  } catch (cause) {
    throw new TwillError('invalid', `subnet key '${name}' is malformed`, cause);
  }
}

function backendData(lease: Lease, family: Family): object | undefined {
  const entry = leaseFamily(lease, family);
  if (lease.backend !== 'vxlan' || entry === undefined) return undefined;
  return { VNI: lease.vni, VtepMAC: entry.vtepMac };
}

/** The JSON that flannel writes for a lease (`LeaseAttrs`): same fields, same order, no spaces. */
export function formatLeaseValue(lease: Lease): string {
  const data = backendData(lease, ipv4);
  const dataV6 = backendData(lease, ipv6);
  return JSON.stringify({
    PublicIP: leaseFamily(lease, ipv4)?.publicIp.text ?? '0.0.0.0',
    PublicIPv6: leaseFamily(lease, ipv6)?.publicIp.text ?? null,
    BackendType: lease.backend,
    ...(data === undefined ? {} : { BackendData: data }),
    ...(dataV6 === undefined ? {} : { BackendV6Data: dataV6 }),
  });
}

/** The fields of flannel's `LeaseAttrs`, or of a Kubernetes node's annotations, before they are checked. */
export interface RawLease {
  readonly PublicIP?: unknown;
  readonly PublicIPv6?: unknown;
  readonly BackendType?: unknown;
  readonly BackendData?: unknown;
  readonly BackendV6Data?: unknown;
}

function rawLease(fields: Readonly<Record<string, unknown>>): RawLease {
  return {
    PublicIP: goField(fields, 'PublicIP'),
    PublicIPv6: goField(fields, 'PublicIPv6'),
    BackendType: goField(fields, 'BackendType'),
    BackendData: goField(fields, 'BackendData'),
    BackendV6Data: goField(fields, 'BackendV6Data'),
  };
}

/** Longer than the name of any backend. */
const LONGEST_TYPE = 32;

function parseVtep(data: unknown, field: string): { vni: number | undefined; mac: string } {
  const fields = (data ?? {}) as Readonly<Record<string, unknown>>;
  const [vni, mac] = [goField(fields, 'VNI'), goField(fields, 'VtepMAC')];
  if (typeof mac !== 'string') throw new TwillError('invalid', `${field}.VtepMAC is missing`);
  const parsed = parseMac(mac);
  if (!isUnicastMac(parsed)) throw new TwillError('invalid', `${field}.VtepMAC '${mac}' is no device's`);
  return { vni: typeof vni === 'number' ? vni : undefined, mac: parsed };
}

/** flannel's backend alloc leaves the field out: its type is the empty text, which is not written. */
function backendType(type: unknown): string {
  if (type === undefined || type === null || type === '') return 'alloc';
  if (typeof type !== 'string') throw new TwillError('invalid', 'BackendType is not a string');
  if (type.length > LONGEST_TYPE) throw new TwillError('invalid', 'BackendType is no backend of flannel');
  return type;
}

/**
 * Checks what a node published. Families without a public IP are left out; none at all is an error.
 * @throws TwillError `invalid` naming the field
 */
export function makeLease(
  name: string,
  subnets: readonly Prefix[],
  raw: RawLease,
  order: LeaseOrder = noOrder,
): Lease {
  const backend = backendType(raw.BackendType);
  const families: LeaseFamily[] = [];
  let vni: number | undefined;
  for (const subnet of subnets) {
    const { family } = subnet;
    // The kernel refuses routes to these, and one that it refuses must not hold up the others.
    if (!isUnicast(subnet.address)) throw new TwillError('invalid', `no node can have ${subnet.text}`);
    const [ipField, dataField] =
      family === ipv4 ? (['PublicIP', 'BackendData'] as const) : (['PublicIPv6', 'BackendV6Data'] as const);
    const text = raw[ipField];
    if (text === undefined || text === null) continue;
    if (typeof text !== 'string') throw new TwillError('invalid', `${ipField} is not a string`);
    const publicIp = parseAddress(text);
    if (publicIp.family !== family)
      throw new TwillError('invalid', `${ipField} '${text}' is not ${family.kubeName}`);
    if (!isUnicast(publicIp)) throw new TwillError('invalid', `no node can have ${ipField} '${text}'`);
    const vtep = backend === 'vxlan' ? parseVtep(raw[dataField], dataField) : undefined;
    vni ??= vtep?.vni;
    families.push({ family, subnet, publicIp, vtepMac: vtep?.mac });
  }
  if (families.length === 0) throw new TwillError('invalid', 'PublicIP is missing');
  return { name, backend, vni, families, order };
}

/**
 * Reads one entry below `…/subnets/`.
 * @throws TwillError `invalid` naming the key and the field
 */
export function parseLease(name: string, value: string, order: LeaseOrder = noOrder): Lease {
  const subnets = parseLeaseKeyName(name);
  let raw: unknown;
  try {
    raw = JSON.parse(value);
  } catch (cause) {
    throw new TwillError('invalid', `the value of subnet key '${name}' is not JSON`, cause);
  }
  try {
    if (typeof raw !== 'object' || raw === null) throw new TwillError('invalid', 'it is not an object');
    return makeLease(name, subnets, rawLease(raw as Readonly<Record<string, unknown>>), order);
  } catch (cause) {
    throw new TwillError('invalid', `the value of subnet key '${name}': ${describeError(cause)}`, cause);
  }
}
