import type { ElementChange, SetElement } from '../../../model/set-element.ts';
import type { Elements } from './elements.ts';
import { entrances, type Layout, layouts, type SetName, setNames } from './names.ts';
import { packedBytes } from './pack.ts';

/** Elements in one message: its length has 16 bits. */
export const MESSAGE_ELEMENTS = 250;
/** Elements in one transaction: others that write rules wait for it, and what is sent has to fit the send buffer. */
export const TRANSACTION_ELEMENTS = 800;
/** Elements that are compared at a stretch: a few milliseconds. */
const LOOK_ELEMENTS = 5000;

/** An element that is not there as it should be. */
export interface Difference {
  readonly set: SetName;
  readonly key: string;
  /** What is there; undefined for nothing. */
  readonly was: string | undefined;
  readonly wanted: string | undefined;
}

/** Words for an element, for those who list the table. */
export type Comment = (set: SetName, key: string) => string | undefined;

/** Compares the named elements. */
export function* differences(
  keys: ReadonlyMap<SetName, Iterable<string>>,
  state: { readonly wanted: Elements; readonly installed: Elements },
): Generator<Difference> {
  for (const set of setNames) {
    const [wanted, installed] = [state.wanted[set], state.installed[set]];
    for (const key of keys.get(set) ?? []) {
      const difference = { set, key, was: installed.get(key), wanted: wanted.get(key) };
      if (difference.was !== difference.wanted) yield difference;
    }
  }
}

type State = { readonly wanted: Elements; readonly installed: Elements };

/** What is not there as it is wanted. @returns how many of the wanted ones stood, rightly or not */
function* missing(set: SetName, state: State): Generator<Difference | undefined, number> {
  const [wanted, installed] = [state.wanted[set], state.installed[set]];
  let [looked, stood] = [0, 0];
  for (const [key, value] of wanted) {
    const was = installed.get(key);
    if (was !== undefined) stood++;
    if (was !== value) yield { set, key, was, wanted: value };
    else if (++looked % LOOK_ELEMENTS === 0) yield undefined;
  }
  return stood;
}

/** What is there and not wanted. */
function* superfluous(set: SetName, state: State): Generator<Difference | undefined> {
  const [wanted, installed] = [state.wanted[set], state.installed[set]];
  let looked = 0;
  for (const [key, was] of installed) {
    if (!wanted.has(key)) yield { set, key, was, wanted: undefined };
    else if (++looked % LOOK_ELEMENTS === 0) yield undefined;
  }
}

/**
 * Compares everything, in the order in which it is to be written: first what entrances lead to, then these, then what they
 * led to. What is found may be written while the rest is looked for.
 * @returns the differences, and undefined where none was found for long
 */
export function* allDifferences(state: State): Generator<Difference | undefined> {
  const others = setNames.filter((set) => !entrances.has(set));
  const cluttered: SetName[] = [];
  for (const set of [...others, ...entrances]) {
    if (isInterval(set)) yield* superfluous(set, state);
    const { size } = state.installed[set];
    const stood = yield* missing(set, state);
    if (size === stood) continue;
    if (entrances.has(set)) yield* superfluous(set, state);
    else if (!isInterval(set)) cluttered.push(set);
  }
  for (const set of cluttered) yield* superfluous(set, state);
}

/** The kernel refuses ranges that overlap: what goes has to go first. */
function isInterval(set: SetName): boolean {
  return (layouts[set] as Layout).interval === true;
}

function phase({ set, wanted }: Difference): 0 | 1 | 2 | 3 {
  if (entrances.has(set)) return 2;
  if (wanted !== undefined) return 1;
  return isInterval(set) ? 0 : 3;
}

/** Some differences in the order of {@link allDifferences}. One element is replaced within a transaction. */
export function inOrder(found: Iterable<Difference>): Difference[] {
  const phases: readonly Difference[][] = [[], [], [], []];
  for (const one of found) phases[phase(one)]!.push(one);
  return phases.flat();
}

/** Differences, in order, in transactions; empty ones where none was found for long. */
export function* inTransactions(ordered: Iterable<Difference | undefined>): Generator<readonly Difference[]> {
  let portion: Difference[] = [];
  for (const one of ordered) {
    if (one === undefined) yield [];
    else portion.push(one);
    if (portion.length < TRANSACTION_ELEMENTS) continue;
    yield portion;
    portion = [];
  }
  if (portion.length > 0) yield portion;
}

function split(set: SetName, key: string, v6: boolean): readonly [key: string, end: string | undefined] {
  const layout: Layout = layouts[set];
  if (layout.interval !== true) return [key, undefined];
  const bytes = packedBytes(layout.key, v6);
  const last = packedBytes(layout.key.slice(-1), v6);
  return [key.slice(0, bytes), key.slice(0, bytes - last) + key.slice(bytes)];
}

/** The key of an element of which the kernel has told both ends, as {@link Elements} have it. */
export function joinedKey(set: SetName, key: string, end: string | undefined, v6: boolean): string {
  const layout: Layout = layouts[set];
  if (layout.interval !== true) return key;
  return key + (end ?? key).slice(-packedBytes(layout.key.slice(-1), v6));
}

/** One transaction as it is written: what goes or is replaced is deleted first. */
export function elementChanges(
  differences: readonly Difference[],
  comment: Comment,
  v6: boolean,
): ElementChange[] {
  const bySet = new Map<SetName, { gone: SetElement[]; come: SetElement[] }>();
  for (const { set, key, was, wanted } of differences) {
    let of = bySet.get(set);
    if (of === undefined) {
      of = { gone: [], come: [] };
      bySet.set(set, of);
    }
    const [first, end] = split(set, key, v6);
    if (was !== undefined) of.gone.push({ key: first, end });
    if (wanted !== undefined) of.come.push({ key: first, end, data: wanted, comment: comment(set, key) });
  }
  const changes: ElementChange[] = [];
  for (const deletes of [true, false]) {
    for (const [set, { gone, come }] of bySet) {
      const elements = deletes ? gone : come;
      for (let at = 0; at < elements.length; at += MESSAGE_ELEMENTS)
        changes.push({ set, deletes, elements: elements.slice(at, at + MESSAGE_ELEMENTS) });
    }
  }
  return changes;
}
