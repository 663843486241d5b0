import { type Entries, type EntryMap, type OverlayEntry, sameEntry } from './entries.ts';

/** One step towards the desired state; `set` replaces what stands under the entry's key. */
export interface OverlayChange {
  readonly action: 'set' | 'remove';
  readonly entry: OverlayEntry;
}

const inOrder = ['neighbour', 'fdb', 'nexthop', 'route'] as const;

/**
 * The changes that make the actual entries equal to the desired ones: neighbour and forwarding entries before the routes
 * that need them, removals of routes before the removals of what they need, and those after what comes in their place:
 * with a nexthop object the kernel removes the routes that use it still.
 * @param actual only entries that are ours to change
 */
export function diffEntries(desired: EntryMap, actual: Entries): OverlayChange[] {
  const removals: OverlayChange[][] = inOrder.map(() => []);
  const sets: OverlayChange[][] = inOrder.map(() => []);
  for (const [key, entry] of actual)
    if (!desired.has(key)) removals[inOrder.indexOf(entry.kind)]!.push({ action: 'remove', entry });
  for (const [key, entry] of desired) {
    const present = actual.get(key);
    if (present !== entry && (present === undefined || !sameEntry(present, entry)))
      sets[inOrder.indexOf(entry.kind)]!.push({ action: 'set', entry });
  }
  return [...sets, ...removals.reverse()].flat();
}
