import { type Family, families, prefixesOverlap } from '../../model/address.ts';
import { type Lease, type LeaseFamily, leaseFamily } from './lease.ts';

/** Two leases that cannot both be right; `detail` names both. */
export interface LeaseConflict {
  readonly kind: 'public-ip' | 'subnet';
  readonly leases: readonly [string, string];
  readonly detail: string;
}

const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

function describe(lease: Lease, family: Family): string {
  const mac = leaseFamily(lease, family)?.vtepMac;
  return mac === undefined ? lease.name : `${lease.name} (VTEP ${mac})`;
}

/** What a lease claims in one family. */
interface Claim {
  readonly lease: Lease;
  readonly entry: LeaseFamily;
}

/**
 * True where no two claim one thing, which a look at each tells: usually it is so, and thousands of leases are in no order
 * that would tell more. False of subnets of several sizes, which only their order tells apart.
 */
function allApart(claims: readonly Claim[]): boolean {
  const publicIps = new Set<string>();
  const subnets = new Set<string>();
  const length = claims[0]?.entry.subnet.length;
  for (const { entry } of claims) {
    if (entry.subnet.length !== length) return false;
    publicIps.add(entry.publicIp.text);
    subnets.add(entry.subnet.text);
  }
  return publicIps.size === claims.length && subnets.size === claims.length;
}

function familyConflicts(claims: readonly Claim[], family: Family): LeaseConflict[] {
  if (allApart(claims)) return [];
  const conflicts: LeaseConflict[] = [];
  const entries = [...claims].sort((a, b) => (a.lease.name < b.lease.name ? -1 : 1));
  const byIp = new Map<string, Lease>();
  for (const { lease, entry } of entries) {
    const other = byIp.get(entry.publicIp.text);
    byIp.set(entry.publicIp.text, lease);
    if (other === undefined) continue;
    conflicts.push({
      kind: 'public-ip',
      leases: [other.name, lease.name],
      detail: `${describe(other, family)} and ${describe(lease, family)} both claim the public IP ${entry.publicIp.text}`,
    });
  }
  // By start, the wider first: a subnet can then only overlap the last one that reaches as far.
  entries.sort(
    (a, b) =>
      compare(a.entry.subnet.address.value, b.entry.subnet.address.value) ||
      a.entry.subnet.length - b.entry.subnet.length,
  );
  let widest = entries[0];
  for (const current of entries.slice(1)) {
    if (widest !== undefined && prefixesOverlap(widest.entry.subnet, current.entry.subnet)) {
      conflicts.push({
        kind: 'subnet',
        leases: [widest.lease.name, current.lease.name],
        detail: `the subnets of ${describe(widest.lease, family)} and ${describe(current.lease, family)} overlap`,
      });
    } else widest = current;
  }
  return conflicts;
}

/** Finds leases that claim one public IP, or subnets that overlap (flannel#805, #1129). */
export function leaseConflicts(leases: Iterable<Lease>): LeaseConflict[] {
  const claims = new Map<Family, Claim[]>(families.map((family) => [family, []]));
  for (const lease of leases)
    for (const entry of lease.families) claims.get(entry.family)?.push({ lease, entry });
  return families.flatMap((family) => familyConflicts(claims.get(family) ?? [], family));
}
