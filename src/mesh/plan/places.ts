import { type Lease, type LeaseFamily, leaseFamily } from '../../leases/plan/lease.ts';
import type { Backend } from '../../leases/plan/network-config.ts';
import { gatewayOf } from '../../leases/plan/subnet-file.ts';
import type { Address, Family } from '../../model/address.ts';

/** By the nodes' own network, or by the way that pods' packets take. */
export type MeshPath = 'underlay' | 'overlay';

/** Where a node asks from and answers, in one family. */
export interface MeshPlace {
  readonly path: MeshPath;
  readonly family: Family;
  readonly address: Address;
}

/** What the measurements follow from. */
export interface MeshView {
  readonly own: Lease;
  readonly leases: ReadonlyMap<string, Lease>;
  readonly backend: Backend;
  /** Families of the pod network. */
  readonly families: readonly Family[];
  /** Leases that have no entries. */
  readonly skipped: readonly { readonly name: string }[];
  /** Addresses of this node. */
  readonly local: ReadonlySet<string>;
  /** This node's address on the underlay by family name. */
  readonly underlay: ReadonlyMap<Family['name'], Address>;
  /** Bytes of the largest packet that this node's pods send; 0 where that is not known. */
  readonly largest: number;
}

/**
 * The address that is reached by the overlay alone: with VXLAN the device's, which is there with the device. Without a
 * device it is the bridge's, which is there from a node's first pod on.
 */
export function overlayAddress({ subnet }: LeaseFamily, { type }: Backend): Address {
  return type === 'vxlan' ? subnet.address : gatewayOf(subnet);
}

/** Where a node is to be asked in a family. */
export function placesOf(
  lease: Lease,
  family: Family,
  backend: Backend,
): Record<MeshPath, Address> | undefined {
  const entry = leaseFamily(lease, family);
  if (entry === undefined) return undefined;
  return { underlay: entry.publicIp, overlay: overlayAddress(entry, backend) };
}

/** Where this node answers. Its public IP is another machine's where it is behind one that translates addresses. */
export function ownPlaces({ own, backend, families, local, underlay }: MeshView): MeshPlace[] {
  if (backend.type === 'alloc') return [];
  return families.flatMap((family): MeshPlace[] => {
    const places = placesOf(own, family, backend);
    if (places === undefined) return [];
    const outer = local.has(places.underlay.text) ? places.underlay : underlay.get(family.name);
    return [
      ...(outer === undefined ? [] : [{ path: 'underlay', family, address: outer } as const]),
      { path: 'overlay', family, address: places.overlay },
    ];
  });
}

/** Names of the nodes that are to be asked. */
export function partnerNames({ own, leases, backend, skipped }: MeshView): string[] {
  if (backend.type === 'alloc') return [];
  const names: string[] = [];
  const without = new Set(skipped.map(({ name }) => name));
  for (const { name, backend: type } of leases.values())
    if (name !== own.name && type === backend.type && !without.has(name)) names.push(name);
  return names;
}

/**
 * True where a node may ask from this address: others get no answer. All leases are gone through: a question costs some
 * microseconds so, and an index of thousands of nodes would cost memory for ever.
 */
export function mayAsk(
  { own, leases, backend }: MeshView,
  path: MeshPath,
  family: Family,
  from: string,
): boolean {
  for (const lease of leases.values()) {
    if (lease.name === own.name) continue;
    const entry = leaseFamily(lease, family);
    if (entry === undefined) continue;
    const address = path === 'underlay' ? entry.publicIp : overlayAddress(entry, backend);
    if (address.text === from) return true;
  }
  return false;
}
