import {
  type Address,
  type Family,
  makeAddress,
  makePrefix,
  type Prefix,
  prefixesOverlap,
  prefixSize,
} from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { isTooWide } from './holders.ts';
import { type Lease, leaseFamily, subnetsOf } from './lease.ts';
import { fitsLimits } from './network-change.ts';
import type { FamilyNetwork, NetworkConfig } from './network-config.ts';

/** What this node knows about itself before it holds a lease. */
export interface NodeIdentity {
  /** One public IP for each enabled family. */
  readonly publicIps: readonly Address[];
  /** MAC addresses of this node's VXLAN devices, by family name. */
  readonly vtepMacs: ReadonlyMap<Family['name'], string>;
  /** Subnets in the subnet file that an earlier run left. */
  readonly previous: readonly Prefix[];
  /** Parts of the pod network that are this node's own, or between it and others: not for pods. */
  readonly avoid?: readonly Prefix[];
}

export type SubnetChoice =
  /**
   * Take over a lease that carries our public IP. `proven` says that something only this node has (VTEP MAC or subnet
   * file) matches too; without that another node may be using the same public IP.
   */
  | { readonly kind: 'reuse'; readonly lease: Lease; readonly proven: boolean }
  /** Create a lease for these subnets; `obsolete` are leases of ours that no longer fit the configuration. */
  | { readonly kind: 'create'; readonly subnets: readonly Prefix[]; readonly obsolete: readonly Lease[] };

/** flannel picks at random among the first free subnets, which keeps racing nodes apart. */
const CANDIDATES = 100;

/** True when these are the subnets of a node under the configuration: one for each family. */
export function fits(config: NetworkConfig, subnets: readonly Prefix[]): boolean {
  return (
    subnets.length === config.families.length &&
    config.families.every((limits) => subnets.some((subnet) => fitsLimits(limits, subnet)))
  );
}

const sameSubnets = (a: readonly Prefix[], b: readonly Prefix[]): boolean =>
  a.length === b.length && a.every((subnet) => b.some((other) => other.text === subnet.text));

/** What the lease says of the first family is our own public IP. */
export function carriesOurIp(lease: Lease, identity: NodeIdentity): boolean {
  const [first] = identity.publicIps; // IPv4 where there is one: flannel compares that alone
  return first !== undefined && leaseFamily(lease, first.family)?.publicIp.value === first.value;
}

/** Something that only this node can have left behind matches the lease. */
function provesOwnership(lease: Lease, identity: NodeIdentity): boolean {
  const mac = lease.families.some(
    ({ family, vtepMac }) => vtepMac !== undefined && identity.vtepMacs.get(family.name) === vtepMac,
  );
  return mac || wasOurs(lease, identity);
}

/** The subnet file is this node's alone; public IP and MAC address anybody who reads the leases can write into another. */
export function wasOurs(lease: Lease, { previous }: NodeIdentity): boolean {
  return sameSubnets(subnetsOf(lease), previous);
}

/** What an earlier run left here first, then what only we should have, then what was there first. */
function byOwnership(identity: NodeIdentity): (a: Lease, b: Lease) => number {
  return (a, b) =>
    Number(wasOurs(b, identity)) - Number(wasOurs(a, identity)) ||
    Number(provesOwnership(b, identity)) - Number(provesOwnership(a, identity)) ||
    a.order.created - b.order.created;
}

function freeSubnet(
  limits: FamilyNetwork,
  taken: readonly Prefix[],
  random: (below: number) => number,
): Prefix {
  const { family, subnetLength, subnetMin, subnetMax } = limits;
  const size = 1n << BigInt(family.bits - subnetLength);
  const ranges = taken
    .filter((prefix) => prefix.family === family)
    .map((prefix) => ({
      start: prefix.address.value,
      end: prefix.address.value + prefixSize(prefix),
    }))
    .sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const free: bigint[] = [];
  let next = 0;
  for (let start = subnetMin.value; start <= subnetMax.value && free.length < CANDIDATES; start += size) {
    while (next < ranges.length && ranges[next]!.end <= start) next++;
    // Ranges may be nested only where the registry is already damaged; looking at the rest costs little then.
    const overlaps = ranges
      .slice(next, next + 8)
      .some((range) => range.start < start + size && start < range.end);
    if (!overlaps) free.push(start);
  }
  const chosen = free[random(free.length)];
  if (chosen === undefined) {
    throw new TwillError(
      'exhausted',
      `every ${family.kubeName} subnet from ${subnetMin.text} to ${subnetMax.text} (/${subnetLength}) is leased`,
    );
  }
  return makePrefix(makeAddress(family, chosen), subnetLength);
}

/**
 * The subnet at the same place of its own range as `first` is. Nodes that choose at the same time and hit upon one IPv4
 * subnet must hit upon one IPv6 subnet, too: only then do they want the same key, and etcd lets one of them have it.
 * @returns undefined when it is taken, or the range is shorter
 */
function counterpart(
  first: Prefix,
  firstLimits: FamilyNetwork,
  limits: FamilyNetwork,
  taken: readonly Prefix[],
): Prefix | undefined {
  const size = ({ family, subnetLength }: FamilyNetwork): bigint => 1n << BigInt(family.bits - subnetLength);
  const place = (first.address.value - firstLimits.subnetMin.value) / size(firstLimits);
  const start = limits.subnetMin.value + place * size(limits);
  if (start < limits.subnetMin.value || start > limits.subnetMax.value) return undefined;
  const subnet = makePrefix(makeAddress(limits.family, start), limits.subnetLength);
  return taken.some((other) => prefixesOverlap(other, subnet)) ? undefined : subnet;
}

function freeSubnets(
  config: NetworkConfig,
  kept: readonly Prefix[],
  taken: readonly Prefix[],
  random: (below: number) => number,
): Prefix[] {
  const [firstLimits, ...others] = config.families;
  const choose = (limits: FamilyNetwork): Prefix | undefined =>
    kept.find((subnet) => fitsLimits(limits, subnet));
  const first = choose(firstLimits!) ?? freeSubnet(firstLimits!, taken, random);
  return [
    first,
    ...others.map(
      (limits) =>
        choose(limits) ??
        counterpart(first, firstLimits!, limits, taken) ??
        freeSubnet(limits, taken, random),
    ),
  ];
}

/**
 * Decides which subnet this node should hold, in flannel's order: the lease with our public IP, the subnet of our last
 * run, a free one.
 * @param random returns a whole number from 0 to below its argument
 * @throws TwillError `exhausted` when every subnet is taken
 */
export function chooseSubnet(options: {
  readonly config: NetworkConfig;
  readonly leases: readonly Lease[];
  readonly identity: NodeIdentity;
  /** Subnets of keys whose values are malformed: taken, though we do not know by whom. */
  readonly blocked?: readonly Prefix[];
  /** Names of leases that are another node's although they carry our public IP. */
  readonly foreign?: ReadonlySet<string>;
  readonly random: (below: number) => number;
}): SubnetChoice {
  const { config, leases, identity, blocked = [], foreign = new Set(), random } = options;
  const ours = leases.filter((lease) => carriesOurIp(lease, identity) && !foreign.has(lease.name));
  const usable = ours.filter((lease) => fits(config, subnetsOf(lease)));
  const [reuse] = usable.sort(byOwnership(identity));
  if (reuse !== undefined) return { kind: 'reuse', lease: reuse, proven: provesOwnership(reuse, identity) };

  // A lease that carries our IP but does not fit is given back only if it is ours beyond doubt or stands alone.
  const obsolete = ours.filter((lease) => provesOwnership(lease, identity) || ours.length === 1);
  const others = leases.filter((lease) => !obsolete.includes(lease));
  const { previous, avoid = [] } = identity;
  const nodes = others.flatMap(({ families }) =>
    families.map(({ publicIp, family }) => makePrefix(publicIp, family.bits)),
  );
  const networks = config.families.map(({ network }) => network);
  const claimed = [...others.flatMap(subnetsOf), ...blocked];
  const taken = [...claimed.filter((subnet) => !isTooWide(subnet, networks)), ...avoid, ...nodes];
  const free = (subnet: Prefix): boolean => !taken.some((other) => prefixesOverlap(other, subnet));
  if (previous.length > 0 && previous.every(free) && fits(config, previous))
    return { kind: 'create', subnets: previous, obsolete };
  // A family that was there before keeps its subnet when another one comes: pods go on under their addresses.
  const kept = obsolete.flatMap(subnetsOf).filter(free);
  return { kind: 'create', subnets: freeSubnets(config, kept, taken, random), obsolete };
}
