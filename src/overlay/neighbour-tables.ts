import { readFileSync } from 'node:fs';
import { readSysctl } from '../kernel/sysctl.ts';
import type { Lease } from '../leases/plan/lease.ts';
import type { Backend } from '../leases/plan/network-config.ts';
import type { Address, Family } from '../model/address.ts';
import type { Check } from '../model/health.ts';

/** Entries in one family's table, and how many it may have. */
export interface NeighbourTable {
  readonly family: 'ipv4' | 'ipv6';
  readonly entries: number;
  readonly limit: number;
}

/** A table that is as full as this is told. */
const FULL = 0.9;

const caches = { ipv4: 'arp_cache', ipv6: 'ndisc_cache' } as const;

/** Entries, from the text of /proc/net/stat/arp_cache or ndisc_cache: the first field, hexadecimal, on every line. */
export function neighbourCount(text: string): number | undefined {
  const [, count] = /^.*\n\s*([0-9a-f]+)\s/.exec(text) ?? [];
  return count === undefined ? undefined : Number.parseInt(count, 16);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** The node's neighbour tables; network namespaces other than the first do not show them. */
export function neighbourTables(): NeighbourTable[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) => {
    const entries = neighbourCount(readText(`/proc/net/stat/${caches[family]}`));
    const limit = Number(readSysctl(`net/${family}/neigh/default/gc_thresh3`));
    return entries === undefined || !(limit > 0) ? [] : [{ family, entries, limit }];
  });
}

/**
 * How many entries of each table are our own permanent ones: of the nodes that are reached through the tunnel. With host-gw
 * and DirectRouting the kernel itself looks for the nodes.
 * @param onLink true where a node is reached without the tunnel
 */
export function permanentNeighbours(
  backend: Backend | undefined,
  leases: Iterable<Lease>,
  onLink: (publicIp: Address) => boolean,
): Record<Family['name'], number> {
  const found = { ipv4: 0, ipv6: 0 };
  if (backend?.type !== 'vxlan') return found;
  for (const { families } of leases)
    for (const { family, publicIp } of families)
      if (!(backend.directRouting && onLink(publicIp))) found[family.name]++;
  return found;
}

/**
 * A full table makes the kernel drop packets to new destinations, and say so in its log only (flannel#928).
 * @param permanent how many entries are permanent: they do not count (since Linux 5.0)
 */
export function fullTables(
  tables: readonly NeighbourTable[],
  permanent: Readonly<Record<Family['name'], number>>,
): Check[] {
  return tables
    .map(({ entries, ...table }) => ({ ...table, entries: entries - permanent[table.family] }))
    .filter(({ entries, limit }) => entries >= limit * FULL)
    .map(({ family, entries, limit }) => ({
      name: 'neighbour table',
      state: 'warning',
      detail: `${entries} of at most ${limit} entries: raise net.${family}.neigh.default.gc_thresh3`,
    }));
}
