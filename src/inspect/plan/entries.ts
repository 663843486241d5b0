import { ipv4 } from '../../model/address.ts';
import { diffEntries } from '../../overlay/plan/diff.ts';
import { type Entries, type EntryMap, type OverlayEntry, sameEntry } from '../../overlay/plan/entries.ts';
import type { Difference } from './difference.ts';

/** Names of devices by interface index. */
export type DeviceNames = ReadonlyMap<number, string>;

const deviceName = (names: DeviceNames, index: number): string => names.get(index) ?? `device ${index}`;

/** An entry as iproute2 would say it. */
export function describeEntry(entry: OverlayEntry, names: DeviceNames): string {
  const device = `dev ${deviceName(names, entry.device)}`;
  switch (entry.kind) {
    case 'route': {
      const { gateway, nexthop, protocol, onlink } = entry;
      const by = nexthop === undefined ? '' : `nhid ${nexthop} `;
      const via = gateway === undefined ? '' : `via ${gateway.text} `;
      return `${by}${via}${device} proto ${protocol}${onlink ? ' onlink' : ''}`;
    }
    case 'nexthop':
      return `via ${entry.gateway.text} ${device}`;
    case 'neighbour':
      return `lladdr ${entry.mac} ${device}`;
    case 'fdb':
      return `dst ${entry.destination.text} ${device}`;
  }
}

/** What people call the entry: what tells it from others of its kind. */
export function entryName(entry: OverlayEntry): string {
  switch (entry.kind) {
    case 'route':
      return entry.destination.text;
    case 'nexthop':
      return `id ${entry.id}`;
    case 'neighbour':
      return entry.address.text;
    case 'fdb':
      return entry.mac;
  }
}

/** The command that shows what stands under the entry's key. */
function showEntry(entry: OverlayEntry, names: DeviceNames): string {
  const device = deviceName(names, entry.device);
  switch (entry.kind) {
    case 'route':
      return `ip ${entry.destination.family === ipv4 ? '' : '-6 '}route show ${entry.destination.text}`;
    case 'nexthop':
      return `ip nexthop show id ${entry.id}`;
    case 'neighbour':
      return `ip neigh show ${entry.address.text} dev ${device}`;
    case 'fdb':
      return `bridge fdb show dev ${device} | grep ${entry.mac}`;
  }
}

/** The state of one entry. */
export type EntryState = 'ok' | 'missing' | 'wrong';

/** How the entry that should stand does, and what stands in its place. */
export function entryState(wanted: OverlayEntry, actual: Entries): EntryState {
  const present = actual.get(wanted.key);
  if (present === undefined) return 'missing';
  return sameEntry(wanted, present) ? 'ok' : 'wrong';
}

/** What of the peers' entries is not as it should be. */
export function entryDifferences(desired: EntryMap, actual: Entries, names: DeviceNames): Difference[] {
  return diffEntries(desired, actual).map(({ action, entry }): Difference => {
    const base = { kind: entry.kind, object: entryName(entry), show: showEntry(entry, names) };
    const said = describeEntry(entry, names);
    if (action === 'remove') return { ...base, state: 'foreign', detail: `belongs to no node: ${said}` };
    const present = actual.get(entry.key);
    if (present === undefined) return { ...base, state: 'missing', detail: `should be ${said}` };
    return { ...base, state: 'wrong', detail: `is ${describeEntry(present, names)}, should be ${said}` };
  });
}
