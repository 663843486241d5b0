import { readFileSync } from 'node:fs';
import { readSysctl } from '../kernel/sysctl.ts';
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
 * A full table makes the kernel drop packets to new destinations, and say so in its log only (flannel#928).
 * @param permanent how many entries are our own permanent ones: they do not count (since Linux 5.0)
 */
export function fullTables(tables: readonly NeighbourTable[], permanent: number): Check[] {
  return tables
    .map(({ entries, ...table }) => ({ ...table, entries: entries - permanent }))
    .filter(({ entries, limit }) => entries >= limit * FULL)
    .map(({ family, entries, limit }) => ({
      name: 'neighbour table',
      state: 'warning',
      detail: `${entries} of at most ${limit} entries: raise net.${family}.neigh.default.gc_thresh3`,
    }));
}
