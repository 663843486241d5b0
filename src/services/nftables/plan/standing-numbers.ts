/** What an earlier run of the proxy had numbered, read from the elements that it left. */
import type { Elements } from './elements.ts';
import type { Arrangement } from './endpoints.ts';
import { localIndex, mostShapes, type SetName, shapeBits } from './names.ts';
import { packNumber, unpackNumber } from './pack.ts';
import { type Claim, type PortRules, unserved } from './service-rules.ts';

/** How the endpoints of a Service port are numbered. */
export interface Numbering {
  readonly arrangement: Arrangement;
  /** With session affinity alone. */
  readonly slots: ReadonlyMap<string, number> | undefined;
}

export const unnumbered: Numbering = { arrangement: { cluster: [], local: [] }, slots: undefined };

const rank = (claim: Claim): number => (claim.space === 'node' ? 1 : claim.rank % unserved === 0 ? 0 : 2);

/** The number of the Service port that one of these led to; 0 for none. */
export function standingSerial(standing: Elements, claims: readonly Claim[]): number {
  // A cluster address and a node port are one Service's alone.
  for (const { space, key } of [...claims].sort((a, b) => rank(a) - rank(b))) {
    const data = standing[space === 'address' ? 'services' : 'node-ports'].get(key);
    if (data !== undefined) return unpackNumber(data) >>> shapeBits;
  }
  return 0;
}

/** @param base the Service port's number, in the upper bits of an id */
export function standingNumbering(
  standing: Elements,
  { sticky, protocol }: PortRules,
  base: number,
): Numbering {
  const name: SetName = sticky ? 'slots' : `endpoints-${protocol}`;
  const set = standing[name];
  const slots = new Map<string, number>();
  const list = (first: number, of: 'sticky' | 'sticky-local'): string[] => {
    const found: string[] = [];
    for (let index = 0; ; index++) {
      const data = set.get(packNumber(base) + packNumber(first + index));
      const backend = sticky && data !== undefined ? standing[of].get(data) : data;
      if (data === undefined || backend === undefined) return found;
      if (sticky) slots.set(backend, unpackNumber(data) & mostShapes);
      found.push(backend);
    }
  };
  const arrangement = { cluster: list(0, 'sticky'), local: list(localIndex, 'sticky-local') };
  return { arrangement, slots: sticky ? slots : undefined };
}
