import {
  type Address,
  type Family,
  ipv4,
  ipv6,
  makePrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  prefixHost,
} from '../../model/address.ts';
import { describeError, TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';

/** Backends that carry packets between nodes (or, `alloc`, leave that to somebody else). */
export type Backend =
  | {
      readonly type: 'vxlan';
      readonly vni: number;
      /** UDP destination port. */
      readonly port: number;
      /** MTU of the underlay in bytes, where the configuration overrides the device's. */
      readonly mtu: number | undefined;
      readonly directRouting: boolean;
      readonly learning: boolean;
      readonly gbp: boolean;
    }
  | { readonly type: 'host-gw' }
  | { readonly type: 'alloc' };

/** One family's pod network and how nodes' subnets are cut from it. */
export interface FamilyNetwork {
  readonly family: Family;
  readonly network: Prefix;
  /** Prefix length of a node's subnet. */
  readonly subnetLength: number;
  /** First and last subnet that may be leased (their network addresses). */
  readonly subnetMin: Address;
  readonly subnetMax: Address;
}

/** flannel's network configuration (`…/config` in etcd, or net-conf.json), checked. */
export interface NetworkConfig {
  readonly families: readonly FamilyNetwork[];
  readonly nftables: boolean;
  readonly backend: Backend;
}

const backendTypes: readonly Backend['type'][] = ['vxlan', 'host-gw', 'alloc'];

/** A JSON object with flannel's fields. */
class Fields {
  private readonly values: Readonly<Record<string, unknown>>;
  private readonly path: string;

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new TwillError('invalid', `${path === '' ? 'the configuration' : path} is not an object`);
    this.values = value as Readonly<Record<string, unknown>>;
    this.path = path;
  }

  raw(name: string): unknown {
    return goField(this.values, name) ?? undefined;
  }

  wrong(name: string, why: string): TwillError {
    return new TwillError('invalid', `${this.path === '' ? '' : `${this.path}.`}${name} ${why}`);
  }

  private typed<T>(name: string, type: 'string' | 'boolean' | 'number'): T | undefined {
    const value = this.raw(name);
    if (value !== undefined && typeof value !== type) throw this.wrong(name, `is not a ${type}`);
    return value as T | undefined;
  }

  text(name: string): string | undefined {
    return this.typed<string>(name, 'string');
  }

  boolean(name: string, standard: boolean): boolean {
    return this.typed<boolean>(name, 'boolean') ?? standard;
  }

  integer(name: string, least: number, most: number): number | undefined {
    const value = this.typed<number>(name, 'number');
    if (value !== undefined && (!Number.isInteger(value) || value < least || value > most))
      throw this.wrong(name, `is ${value}, not a whole number from ${least} to ${most}`);
    return value;
  }

  parsed<T extends { readonly family: Family }>(
    name: string,
    family: Family,
    parse: (text: string) => T,
  ): T | undefined {
    const text = this.text(name);
    if (text === undefined || text === '') return undefined;
    try {
      const value = parse(text);
      if (value.family !== family) throw new TwillError('invalid', `'${text}' is not ${family.kubeName}`);
      return value;
    } catch (cause) {
      throw this.wrong(name, `is wrong: ${describeError(cause)}`);
    }
  }
}

/** Limits of flannel: every node needs a tunnel and a bridge address, and there must be room for four subnets. */
const limits = {
  ipv4: { prefix: '', longest: 30, usual: 24 },
  ipv6: { prefix: 'IPv6', longest: 126, usual: 64 },
} as const;

function subnetLength(fields: Fields, network: Prefix): number {
  const { prefix, longest, usual } = limits[network.family.name];
  const name = `${prefix}SubnetLen`;
  const given = fields.integer(name, 0, network.family.bits) ?? 0;
  if (given > longest)
    throw fields.wrong(name, `is ${given}: at most ${longest}, a subnet needs four addresses`);
  if (given > 0 && given < network.length + 2)
    throw fields.wrong(name, `is ${given}: ${network.text} must have room for at least four subnets`);
  if (given > 0) return given;
  if (network.length > longest - 2)
    throw fields.wrong(`${prefix}Network`, `${network.text} is too small: at least /${longest - 2}`);
  return network.length <= usual - 2 ? usual : network.length + 2;
}

function subnetLimit(fields: Fields, name: string, network: Prefix, length: number): Address | undefined {
  const limit = fields.parsed(name, network.family, parseAddress);
  if (limit === undefined || limit.value === 0n) return undefined;
  if (!prefixContains(network, limit)) throw fields.wrong(name, `${limit.text} is not in ${network.text}`);
  if (makePrefix(limit, length).address.value !== limit.value)
    throw fields.wrong(name, `${limit.text} is not the start of a /${length} subnet`);
  return limit;
}

/** Addresses that no pod can have, whatever the configuration: this host, loopback, multicast, link-local. */
const unusable = {
  ipv4: ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4'].map(parsePrefix),
  ipv6: ['::/127', 'fe80::/10', 'ff00::/8'].map(parsePrefix),
} as const;

function familyNetwork(fields: Fields, family: Family, allocate: boolean): FamilyNetwork {
  const { prefix } = limits[family.name];
  const network = fields.parsed(`${prefix}Network`, family, parsePrefix);
  if (network === undefined)
    throw fields.wrong(`${prefix}Network`, `is missing, and Enable${family.kubeName} is on`);
  const nowhere = unusable[family.name].find((reserved) => prefixesOverlap(reserved, network));
  if (nowhere !== undefined)
    throw fields.wrong(`${prefix}Network`, `${network.text} overlaps ${nowhere.text}, which no pod can have`);
  // Where Kubernetes allocates the subnets these settings have no meaning, and flannel does not check them.
  if (!allocate) {
    const { address } = network;
    return { family, network, subnetLength: network.length, subnetMin: address, subnetMax: address };
  }
  const length = subnetLength(fields, network);
  const size = 1n << BigInt(family.bits - length);
  // The first subnet is left out: its first address is the network's own.
  const subnetMin = subnetLimit(fields, `${prefix}SubnetMin`, network, length) ?? prefixHost(network, size);
  const subnetMax = subnetLimit(fields, `${prefix}SubnetMax`, network, length) ?? prefixHost(network, -size);
  if (subnetMin.value > subnetMax.value)
    throw fields.wrong(
      `${prefix}SubnetMin`,
      `${subnetMin.text} is above ${prefix}SubnetMax, ${subnetMax.text}: no subnet is left`,
    );
  return { family, network, subnetLength: length, subnetMin, subnetMax };
}

function parseBackend(value: unknown): Backend {
  // flannel's default is its udp backend; like any other that we do not have it must not be replaced silently.
  const fields = new Fields(value ?? { Type: 'udp' }, 'Backend');
  const type = fields.text('Type') ?? '';
  // As flannel does (backend/manager.go, GetBackend).
  const known = backendTypes.find((candidate) => candidate === type.toLowerCase());
  if (known === undefined)
    throw fields.wrong('Type', `is '${type}': Twill has the backends ${backendTypes.join(', ')}`);
  if (known !== 'vxlan') return { type: known };
  return {
    type: 'vxlan',
    vni: fields.integer('VNI', 1, 0xffffff) ?? 1,
    port: fields.integer('Port', 0, 65535) || 8472,
    mtu: fields.integer('MTU', 0, 65535) || undefined,
    directRouting: fields.boolean('DirectRouting', false),
    learning: fields.boolean('Learning', false),
    gbp: fields.boolean('GBP', false),
  };
}

/**
 * Reads and checks flannel's network configuration.
 * @param allocate false where somebody else (Kubernetes) cuts the nodes' subnets
 * @throws TwillError `invalid` naming the field
 */
export function parseNetworkConfig(text: string, allocate = true): NetworkConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TwillError('invalid', 'the network configuration is not JSON', cause);
  }
  const fields = new Fields(value, '');
  const families: FamilyNetwork[] = [];
  if (fields.boolean('EnableIPv4', true)) families.push(familyNetwork(fields, ipv4, allocate));
  if (fields.boolean('EnableIPv6', false)) families.push(familyNetwork(fields, ipv6, allocate));
  if (families.length === 0) throw fields.wrong('EnableIPv4', 'and EnableIPv6 are both off');
  const backend = parseBackend(fields.raw('Backend'));
  if (backend.type === 'vxlan' && backend.mtu !== undefined) {
    const least = leastMtu(
      families.map(({ family }) => family),
      true,
    );
    if (backend.mtu < least)
      throw fields.wrong(
        'Backend.MTU',
        `is ${backend.mtu}: at least ${least}, so that ${pods(families)} fit in after encapsulation`,
      );
  }
  return { families, nftables: fields.boolean('EnableNFTables', false), backend };
}

/** Smallest MTU with which Linux has the family on a device (ETH_MIN_MTU; RFC 8200, section 5). */
const leastOfFamily = { ipv4: 68, ipv6: 1280 } as const;

/** Bytes that the underlay must carry: pods have one interface for all families. */
export function leastMtu(families: readonly Family[], encapsulated: boolean): number {
  const inner = Math.max(...families.map(({ name }) => leastOfFamily[name]));
  return inner + (encapsulated ? Math.max(...families.map(({ vxlanOverhead }) => vxlanOverhead)) : 0);
}

const pods = (families: readonly FamilyNetwork[]): string =>
  `pods' packets of ${families.map(({ family }) => `${family.kubeName} (${leastOfFamily[family.name]} bytes)`).join(' and ')}`;
