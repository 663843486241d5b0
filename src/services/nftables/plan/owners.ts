import { type Layout, layouts, type SetName, shapeBits } from './names.ts';
import { packedBytes, unpackNumber } from './pack.ts';
import type { Claim, PortRules } from './service-rules.ts';

/** What is known of who has what. */
export interface Ownership {
  /** By Service. */
  readonly services: ReadonlyMap<string, readonly PortRules[]>;
  /** {@link PortRules.id} by the number of a Service port. */
  readonly serials: ReadonlyMap<number, string>;
  readonly claimant: (space: Claim['space'], key: string) => string | undefined;
  readonly v6: boolean;
}

/** Whether an element is there for a Service port: where that is not to be seen by its key alone. */
function wants(set: SetName, key: string): ((port: PortRules) => boolean) | undefined {
  if (set === 'cluster-ips') return ({ clusterIP }) => clusterIP === key;
  if (set === 'hairpin') return ({ hairpins }) => hairpins.some((address) => address + address === key);
  return undefined;
}

/**
 * The Service that an element is there for, one of them where there are several; undefined for one that is there for no
 * Service. It looks through all of them: for when something is wrong.
 */
export function ownerOf(
  set: SetName,
  key: string,
  { services, serials, claimant, v6 }: Ownership,
): string | undefined {
  const { key: fields }: Layout = layouts[set];
  const find = (is: (port: PortRules) => boolean): string | undefined => {
    for (const [service, ports] of services) if (ports.some(is)) return service;
    return undefined;
  };
  const shared = wants(set, key);
  if (shared !== undefined) return find(shared);
  let id: string | undefined;
  if (fields[0] === 'id') id = serials.get(unpackNumber(key) >>> shapeBits);
  else if (fields[0] === 'protocol') id = claimant('node', key);
  else if (fields.length > 1) id = claimant('address', key.slice(0, packedBytes(fields.slice(0, 3), v6)));
  return id === undefined ? undefined : find((port) => port.id === id);
}
