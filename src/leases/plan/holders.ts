import {
  type Address,
  type Family,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address.ts';
import { type Lease, type LeaseFamily, leaseFamily } from './lease.ts';
import { inside } from './network-change.ts';

/** A network has room for four subnets: what takes more of it is no node's share. */
const SHARE_BITS = 2;

/** True for a subnet that leaves too little of its network to other nodes: whoever has a part of it comes first. */
export function isTooWide(subnet: Prefix, networks: readonly Prefix[]): boolean {
  const around = networks.filter((network) => prefixesOverlap(network, subnet));
  return around.length > 0 && around.every(({ length }) => subnet.length < length + SHARE_BITS);
}

/** Why leases do not get what they claim: by name of the lease, then by name of the family. */
export type Refusals = ReadonlyMap<string, ReadonlyMap<Family['name'], string>>;

/** Who has which addresses of one family. Finds what lies around a prefix and what lies in it, at a cost of its lengths. */
class AddressTable {
  private readonly bits: number;
  private readonly lengths: readonly number[];
  /** By length, then by the leading bits. */
  private readonly exact = new Map<number, Map<bigint, Lease>>();
  /** Leading bits of what is longer than that. */
  private readonly within = new Map<number, Map<bigint, Lease>>();

  /** @param lengths all that will be asked for or added */
  constructor(bits: number, lengths: readonly number[]) {
    this.bits = bits;
    this.lengths = lengths;
    for (const length of lengths) {
      this.exact.set(length, new Map());
      this.within.set(length, new Map());
    }
  }

  private leading({ value }: Address, length: number): bigint {
    return value >> BigInt(this.bits - length);
  }

  /** Who has something that overlaps the addresses. */
  overlapping(address: Address, length: number): Lease | undefined {
    for (const shorter of this.lengths) {
      if (shorter > length) continue;
      const holder = this.exact.get(shorter)?.get(this.leading(address, shorter));
      if (holder !== undefined) return holder;
    }
    return this.within.get(length)?.get(this.leading(address, length));
  }

  add(address: Address, length: number, lease: Lease): void {
    this.exact.get(length)?.set(this.leading(address, length), lease);
    for (const shorter of this.lengths)
      if (shorter < length) this.within.get(shorter)?.set(this.leading(address, shorter), lease);
  }

  /** Only where there is but one length: of several, more than one may have put its mark. */
  remove(address: Address, length: number, lease: Lease): void {
    const bits = this.leading(address, length);
    const holders = this.exact.get(length);
    if (holders?.get(bits)?.name === lease.name) holders.delete(bits);
  }
}

/**
 * True when another lease of the networks said before our own that it has this VTEP MAC, which ours says. Who starts now believes that one.
 * @param own our lease, with its true place in the order
 */
export function macContested(
  own: Lease,
  { family, mac }: { readonly family: Family; readonly mac: string },
  leases: Iterable<Lease>,
  networks: readonly Prefix[],
): boolean {
  if (leaseFamily(own, family)?.vtepMac !== mac) return false;
  for (const other of leases) {
    if (other.name === own.name) continue;
    const entry = leaseFamily(other, family);
    if (entry?.vtepMac !== mac || !networks.some((network) => inside(network, entry.subnet))) continue;
    const [first, second] = [other.order.changed, own.order.changed];
    if (first < second || (first === second && other.name < own.name)) return true;
  }
  return false;
}

/** What the leases of one family hold so far. */
class FamilyHolders {
  readonly subnetLengths: ReadonlySet<number>;
  private readonly networks: readonly Prefix[];
  private readonly subnets: AddressTable;
  /** Public IPs within the pod network; where the nodes' network is another, as it should be, there are none. */
  private readonly publicIps: AddressTable;
  private readonly macs = new Map<string, Lease>();
  /** Two leases have one MAC address. */
  shared = false;

  constructor(family: Family, networks: readonly Prefix[], subnetLengths: ReadonlySet<number>) {
    this.networks = networks;
    this.subnetLengths = subnetLengths;
    const lengths = [...subnetLengths];
    this.subnets = new AddressTable(family.bits, lengths);
    this.publicIps = new AddressTable(family.bits, [...new Set([...lengths, family.bits])]);
  }

  /** @returns why the lease does not hold its subnet */
  takeSubnet(lease: Lease, { subnet }: LeaseFamily): string | undefined {
    if (!this.networks.some((network) => inside(network, subnet)))
      return `its subnet ${subnet.text} is not in the pod network ${this.networks.map(({ text }) => text).join(', ')}`;
    const { address, length } = subnet;
    const holder = this.subnets.overlapping(address, length);
    if (holder !== undefined)
      return `its subnet ${subnet.text} overlaps that of ${holder.name}, which was there first`;
    const node = this.publicIps.overlapping(address, length);
    if (node !== undefined)
      return `its subnet ${subnet.text} has the public IP of ${node.name} in it, which was there first`;
    this.subnets.add(address, length, lease);
    return undefined;
  }

  private nested(publicIp: Address): boolean {
    return this.networks.some((network) => prefixContains(network, publicIp));
  }

  /** @returns why the lease, which holds its subnet, does not hold public IP and MAC address */
  takeIdentity(lease: Lease, { family, publicIp, vtepMac }: LeaseFamily): string | undefined {
    if (this.nested(publicIp)) {
      const node = this.subnets.overlapping(publicIp, family.bits);
      if (node !== undefined) return `its public IP ${publicIp.text} is in the subnet of ${node.name}`;
    }
    const owner = vtepMac === undefined ? undefined : this.macs.get(vtepMac);
    // A node that has taken another subnet is behind one address with both, as long as the first is still followed.
    const moved = owner?.leaving && leaseFamily(owner, family)?.publicIp.text === publicIp.text;
    if (moved) this.shared = true;
    if (owner !== undefined && !moved)
      return `its VTEP MAC ${vtepMac} is that of ${owner.name}, which had it first: one of the two nodes needs another (nodes with one machine-id get one MAC from udev)`;
    if (vtepMac !== undefined && !moved) this.macs.set(vtepMac, lease);
    if (this.nested(publicIp)) this.publicIps.add(publicIp, family.bits, lease);
    return undefined;
  }

  /** @returns false where that cannot be done */
  release(lease: Lease, { subnet, publicIp, vtepMac }: LeaseFamily): boolean {
    if (this.subnetLengths.size > 1 || this.nested(publicIp)) return false;
    this.subnets.remove(subnet.address, subnet.length, lease);
    if (vtepMac !== undefined && this.macs.get(vtepMac)?.name === lease.name) this.macs.delete(vtepMac);
    return true;
  }
}

/** One claim, at its place in the order in which all were made. */
interface Claim {
  readonly lease: Lease;
  readonly entry: LeaseFamily;
  readonly subnet: boolean;
  readonly at: number;
}

/**
 * A lease's subnet is claimed when it is made, its public IP and MAC address when it was last written. At one time, a
 * subnet comes first: it is what a lease is named by.
 */
function inOrder(a: Claim, b: Claim): number {
  return (
    a.at - b.at ||
    Number(b.subnet) - Number(a.subnet) ||
    (a.lease.name < b.lease.name ? -1 : a.lease.name > b.lease.name ? 1 : 0)
  );
}

/**
 * Decides which leases hold what they claim: a subnet in the pod network that overlaps no other lease's and has no
 * node's public IP in it, and a VTEP MAC that is no other's. Whoever was first keeps it. The order is what the source
 * says of its entries, so that all nodes come to the same end, whenever they started.
 */
export class LeaseHolders {
  private readonly networks: readonly Prefix[];
  private families = new Map<Family, FamilyHolders>();
  /** Two leases want one thing. */
  private contested = false;

  /** @param networks the pod networks; leases of other families are not looked at */
  constructor(networks: readonly Prefix[]) {
    this.networks = networks;
  }

  /** Judges all leases there are. */
  judge(leases: Iterable<Lease>): Refusals {
    const all = [...leases];
    this.reset(all);
    const refusals = new Map<string, Map<Family['name'], string>>();
    const refuse = (lease: Lease, family: Family, reason: string): void => {
      const known = refusals.get(lease.name);
      if (known === undefined) refusals.set(lease.name, new Map([[family.name, reason]]));
      else known.set(family.name, reason);
    };
    for (const lease of all)
      for (const entry of lease.families) {
        const reason = this.take(lease, entry);
        if (reason !== undefined) refuse(lease, entry.family, reason);
      }
    // Usually nobody claims what another has, and the order does not matter.
    if (!this.contested) return refusals;
    this.reset(all);
    this.contested = true;
    refusals.clear();
    for (const { lease, entry, subnet } of claims(all, this.networks)) {
      const { family } = entry;
      const holders = this.families.get(family);
      if (refusals.get(lease.name)?.has(family.name)) continue;
      const reason = subnet ? holders?.takeSubnet(lease, entry) : holders?.takeIdentity(lease, entry);
      if (reason !== undefined) refuse(lease, family, reason);
    }
    return refusals;
  }

  /**
   * Brings the last judgement up to date for one lease that has come, gone or changed.
   * @returns false where only a new judgement of all is right
   */
  replace(old: Lease | undefined, current: Lease | undefined): boolean {
    if (this.contested) return false;
    for (const entry of old?.families ?? [])
      if (this.families.get(entry.family)?.release(old!, entry) === false) return false;
    for (const entry of current?.families ?? []) {
      const holders = this.families.get(entry.family);
      if (holders === undefined) continue;
      if (!holders.subnetLengths.has(entry.subnet.length)) return false;
      if (this.take(current!, entry) !== undefined) return false;
    }
    return true;
  }

  private take(lease: Lease, entry: LeaseFamily): string | undefined {
    const { family, subnet } = entry;
    const holders = this.families.get(family);
    if (holders === undefined) return undefined;
    const reason = holders.takeSubnet(lease, entry) ?? holders.takeIdentity(lease, entry);
    if (reason !== undefined && this.networks.some((network) => inside(network, subnet)))
      this.contested = true;
    // What one of them brings must not be taken away with the other.
    if (holders.shared) this.contested = true;
    return reason;
  }

  private reset(leases: readonly Lease[]): void {
    this.contested = false;
    this.families = new Map();
    for (const { family } of this.networks) {
      if (this.families.has(family)) continue;
      const lengths = new Set<number>();
      for (const lease of leases)
        for (const { subnet } of lease.families) if (subnet.family === family) lengths.add(subnet.length);
      const networks = this.networks.filter((network) => network.family === family);
      this.families.set(family, new FamilyHolders(family, networks, lengths));
    }
  }
}

function claims(leases: readonly Lease[], networks: readonly Prefix[]): Claim[] {
  return leases
    .flatMap((lease) =>
      lease.families.flatMap((entry): Claim[] => {
        const last = isTooWide(entry.subnet, networks);
        return [
          { lease, entry, subnet: true, at: last ? Number.MAX_VALUE : lease.order.created },
          { lease, entry, subnet: false, at: last ? Number.MAX_VALUE : lease.order.changed },
        ];
      }),
    )
    .sort(inOrder);
}
