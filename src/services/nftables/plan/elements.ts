import { type SetName, setNames } from './names.ts';

/** Elements by set: key to data, which is '' in a set. */
export type Elements = Record<SetName, Map<string, string>>;

export function noElements(): Elements {
  return Object.fromEntries(setNames.map((name) => [name, new Map<string, string>()])) as Elements;
}

/** Keys by set. */
class Keys {
  readonly sets = new Map<SetName, Set<string>>();

  add(set: SetName, key: string): void {
    const keys = this.sets.get(set);
    if (keys === undefined) this.sets.set(set, new Set([key]));
    else keys.add(key);
  }
}

/** The elements that should stand, and which of them may have changed since somebody last asked. */
export class WantedElements {
  readonly all = noElements();
  private touched = new Keys();
  /** What goes with the change that is under way, unless it comes again. */
  private readonly dropped = new Keys();
  /** Not before the first look: everything is compared then. */
  private notes = false;

  put(set: SetName, key: string, data: string): void {
    const elements = this.all[set];
    // Nearly all of a Service's elements stay as they were: nobody has to look at these.
    if (this.dropped.sets.get(set)?.delete(key) === true && elements.get(key) === data) return;
    elements.set(key, data);
    this.touch(set, key);
  }

  /** It goes with the next {@link settle}, unless it is put again before. */
  drop(set: SetName, key: string): void {
    this.dropped.add(set, key);
  }

  /** Ends a change: what was dropped and did not come again is gone. */
  settle(): void {
    for (const [set, keys] of this.dropped.sets) {
      for (const key of keys) {
        this.all[set].delete(key);
        this.touch(set, key);
      }
      keys.clear();
    }
  }

  /** The elements that may have changed since the last call. */
  takeTouched(): ReadonlyMap<SetName, ReadonlySet<string>> {
    const { sets } = this.touched;
    this.notes = true;
    this.touched = new Keys();
    return sets;
  }

  private touch(set: SetName, key: string): void {
    if (this.notes) this.touched.add(set, key);
  }
}
