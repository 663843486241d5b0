/** Numbers endpoints, so that a change of one touches the elements of that one. */
import { localIndex, mostSlots, type SetName } from './names.ts';
import { packNumber } from './pack.ts';
import type { Pick, Region } from './shapes.ts';

export type Emit = (set: SetName, key: string, data: string) => void;

/** The endpoints of one Service port in the order in which they are numbered, each address and port once. */
export type Arrangement = Readonly<Record<Region, readonly string[]>>;

const regions: readonly Region[] = ['cluster', 'local'];

/** Keeps everyone's number: who comes gets a free one, and without any the last moves into a gap. */
export function arrange(before: readonly string[], wanted: readonly string[]): string[] {
  const fresh = new Set(wanted);
  const kept: (string | undefined)[] = before.map((one) => (fresh.delete(one) ? one : undefined));
  const coming = [...fresh];
  const result: string[] = [];
  for (let index = 0; index < kept.length; index++) {
    let one = kept[index] ?? coming.shift();
    while (one === undefined && kept.length > index + 1) one = kept.pop();
    if (one !== undefined) result.push(one);
  }
  return [...result, ...coming];
}

/**
 * With session affinity, a number for each endpoint that stays while it is there. One that comes may get the number of one
 * that is gone, and with it the clients which that one had.
 */
export function numberSlots(
  before: ReadonlyMap<string, number>,
  wanted: Iterable<string>,
): Map<string, number> {
  const all = new Set(wanted);
  const slots = new Map([...before].filter(([one]) => all.has(one)));
  const taken = new Set(slots.values());
  let next = 1;
  for (const one of all) {
    if (slots.has(one)) continue;
    while (taken.has(next)) next++;
    if (next > mostSlots) break;
    slots.set(one, next);
    taken.add(next);
  }
  return slots;
}

/** Says the elements of a Service port's endpoints. @param base the port's number, in the upper bits of an id */
export function endpointElements(
  { base, protocol }: { readonly base: number; readonly protocol: Pick['protocol'] },
  arrangement: Arrangement,
  slots: ReadonlyMap<string, number> | undefined,
  emit: Emit,
): void {
  for (const region of regions) {
    const first = region === 'local' ? localIndex : 0;
    arrangement[region].forEach((backend, index) => {
      const key = packNumber(base) + packNumber(first + index);
      if (slots === undefined) emit(`endpoints-${protocol}`, key, backend);
      else {
        const id = packNumber((base | slots.get(backend)!) >>> 0);
        emit('slots', key, id);
        emit(region === 'local' ? 'sticky-local' : 'sticky', id, backend);
      }
    });
  }
}

/**
 * The same for endpoints that come in the place of others, without session affinity: says what changes alone. Of a Service
 * with hundreds of endpoints that is one, mostly.
 */
export function changedEndpoints(
  { base, protocol }: { readonly base: number; readonly protocol: Pick['protocol'] },
  before: Arrangement,
  after: Arrangement,
  to: { put: Emit; drop(set: SetName, key: string): void },
): void {
  for (const region of regions) {
    const first = region === 'local' ? localIndex : 0;
    const [old, fresh] = [before[region], after[region]];
    for (let index = 0; index < old.length || index < fresh.length; index++) {
      const backend = fresh[index];
      if (old[index] === backend) continue;
      const key = packNumber(base) + packNumber(first + index);
      if (backend === undefined) to.drop(`endpoints-${protocol}`, key);
      else to.put(`endpoints-${protocol}`, key, backend);
    }
  }
}
