import { type EntryMap, type FdbEntryPlan, type OverlayEntry, sameEntry } from './entries.ts';

/** One step towards the desired state. `append` adds a further destination to a MAC that has one already. */
export interface OverlayChange {
  readonly action: 'set' | 'append' | 'remove';
  readonly entry: OverlayEntry;
}

const inOrder = ['neighbour', 'fdb', 'nexthop', 'route'] as const;

function byMac(entries: EntryMap): Map<string, FdbEntryPlan[]> {
  const groups = new Map<string, FdbEntryPlan[]>();
  for (const entry of entries.values()) {
    if (entry.kind !== 'fdb') continue;
    const group = groups.get(entry.mac);
    if (group === undefined) groups.set(entry.mac, [entry]);
    else group.push(entry);
  }
  return groups;
}

/**
 * A MAC with one destination before and after is replaced in one step, so that no packet is lost when a node changes
 * its public IP; any other difference is removals first, then additions.
 */
function fdbChanges(desired: EntryMap, actual: EntryMap): OverlayChange[] {
  const changes: OverlayChange[] = [];
  const wantedByMac = byMac(desired);
  const presentByMac = byMac(actual);
  for (const [mac, present] of presentByMac) {
    const wanted = wantedByMac.get(mac) ?? [];
    if (wanted.length === 1 && present.length === 1) continue;
    for (const entry of present) {
      const kept = desired.get(entry.key);
      if (kept === undefined || !sameEntry(kept, entry)) changes.push({ action: 'remove', entry });
    }
  }
  for (const [mac, wanted] of wantedByMac) {
    const action = wanted.length === 1 ? 'set' : 'append';
    for (const entry of wanted) {
      const present = actual.get(entry.key);
      if (present !== undefined && sameEntry(present, entry)) continue;
      changes.push({ action: presentByMac.has(mac) || action === 'set' ? action : 'append', entry });
    }
  }
  return changes;
}

/** The entries of `map` that `other` does not have alike. */
function differing(map: EntryMap, other: EntryMap): EntryMap {
  const result: EntryMap = new Map();
  for (const [key, entry] of map) {
    const counterpart = other.get(key);
    if (counterpart !== entry && (counterpart === undefined || !sameEntry(counterpart, entry)))
      result.set(key, entry);
  }
  return result;
}

/** Adds the forwarding entries that share a MAC with one that differs: what is to be done depends on them too. */
function withSameMac(part: EntryMap, whole: EntryMap, macs: ReadonlySet<string>): EntryMap {
  for (const [key, entry] of whole) if (entry.kind === 'fdb' && macs.has(entry.mac)) part.set(key, entry);
  return part;
}

/** Everything is new: no need to compare. */
function allNew(desired: EntryMap): OverlayChange[] {
  const changes: Record<OverlayEntry['kind'], OverlayChange[]> = {
    neighbour: [],
    fdb: [],
    nexthop: [],
    route: [],
  };
  const macs = new Set<string>();
  for (const entry of desired.values()) {
    const before = macs.size;
    if (entry.kind === 'fdb') macs.add(entry.mac);
    const shared = entry.kind === 'fdb' && macs.size === before;
    changes[entry.kind].push({ action: shared ? 'append' : 'set', entry });
  }
  return changes.neighbour.concat(changes.fdb, changes.nexthop, changes.route);
}

/** Usually one lease of thousands has changed: everything after this looks at what differs alone. */
function narrow(desired: EntryMap, actual: EntryMap): { desired: EntryMap; actual: EntryMap } {
  const wanted = differing(desired, actual);
  const present = differing(actual, desired);
  const macs = new Set<string>();
  for (const part of [wanted, present])
    for (const entry of part.values()) if (entry.kind === 'fdb') macs.add(entry.mac);
  if (macs.size === 0) return { desired: wanted, actual: present };
  return { desired: withSameMac(wanted, desired, macs), actual: withSameMac(present, actual, macs) };
}

/**
 * The changes that make the actual entries equal to the desired ones: neighbour and forwarding entries before the routes that need them,
 * removals of routes before the removals of what they need.
 * @param allActual only entries that are ours to change
 */
export function diffEntries(allDesired: EntryMap, allActual: EntryMap): OverlayChange[] {
  if (allActual.size === 0) return allNew(allDesired);
  const { desired, actual } = narrow(allDesired, allActual);
  const removals: OverlayChange[] = [];
  const sets: OverlayChange[] = [];
  for (const [key, entry] of actual) {
    if (entry.kind !== 'fdb' && !desired.has(key)) removals.push({ action: 'remove', entry });
  }
  for (const [key, entry] of desired) {
    if (entry.kind === 'fdb') continue;
    const present = actual.get(key);
    if (present === undefined || !sameEntry(present, entry)) sets.push({ action: 'set', entry });
  }
  for (const change of fdbChanges(desired, actual))
    (change.action === 'remove' ? removals : sets).push(change);
  const rank = (change: OverlayChange): number => inOrder.indexOf(change.entry.kind);
  removals.sort((a, b) => rank(b) - rank(a));
  sets.sort((a, b) => rank(a) - rank(b));
  return [...removals, ...sets];
}
