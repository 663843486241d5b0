import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseAddress, parsePrefix } from '../../../src/model/address.ts';
import {
  ActualEntries,
  type ListedFdbEntry,
  type ListedNeighbour,
  type ListedRoute,
  type Ownership,
} from '../../../src/overlay/plan/actual.ts';
import type { EntryMap } from '../../../src/overlay/plan/entries.ts';
import { changes, desired, lease } from '../../lab/overlay-fixtures.ts';

describe('what of the kernel is ours', () => {
  const route = (text: string, more: Partial<ListedRoute>) => ({
    destination: parsePrefix(text),
    gateway: parseAddress('10.244.7.0'),
    device: 5,
    onlink: true,
    protocol: 3,
    metric: 0,
    scope: 0,
    source: undefined,
    nexthop: undefined,
    ...more,
  });
  const ownership = { devices: new Set([5]), networks: [parsePrefix('10.244.0.0/16')] };
  const keys = (routes: ListedRoute[], wanted: EntryMap = new Map()): string[] => {
    const actual = new ActualEntries(ownership, wanted);
    for (const listed of routes) actual.route(listed);
    return [...actual.entries.keys()];
  };

  it('routes with our mark, and those of an earlier flanneld through our device', () => {
    assert.deepEqual(
      keys([route('10.244.7.0/24', {}), route('10.244.8.0/24', { device: 2, protocol: 80 })]),
      ['r 10.244.7.0/24', 'r 10.244.8.0/24'],
    );
  });

  it("not the kernel's, not those outside the pod network, not others' through other devices", () => {
    assert.deepEqual(
      keys([
        route('10.244.7.0/24', { protocol: 2 }),
        route('203.0.113.0/24', {}),
        route('10.0.0.0/8', {}),
        route('10.244.9.0/24', { device: 2 }),
      ]),
      [],
    );
  });

  it('at adoption, routes through the underlay that are in every field as flanneld writes them', () => {
    const adopting: Ownership = {
      ...ownership,
      adoption: { underlay: 2, subnets: [parsePrefix('10.244.9.0/24')] },
    };
    const flannels = { device: 2, onlink: false, gateway: parseAddress('192.0.2.7') };
    const found = (routes: ListedRoute[]): string[] => {
      const actual = new ActualEntries(adopting, new Map());
      for (const listed of routes) actual.route(listed);
      return [...actual.entries.keys()];
    };
    const stale = route('10.244.7.0/24', flannels);
    assert.deepEqual(found([stale]), ['r 10.244.7.0/24']);
    const others: Partial<ListedRoute>[] = [
      { protocol: 4 },
      { protocol: 186 },
      { device: 3 },
      { gateway: undefined, scope: 253 },
      { onlink: true },
      { metric: 100 },
      { source: parseAddress('192.0.2.9') },
      { destination: parsePrefix('10.244.7.0/25') },
      { destination: parsePrefix('10.9.7.0/24') },
    ];
    for (const change of others)
      assert.deepEqual(
        found([route('10.244.7.0/24', { ...flannels, ...change })]),
        [],
        JSON.stringify(Object.keys(change)),
      );
    const marked = route('10.244.8.0/24', { ...flannels, protocol: 80 });
    for (const routes of [
      [stale, marked],
      [marked, stale],
    ])
      assert.deepEqual(found(routes), ['r 10.244.8.0/24'], 'we have run here since');
  });

  it('a foreign route that stands where ours should', () => {
    const wanted = desired([lease(7)]).entries;
    const found = keys([route('10.244.7.0/24', { device: 2 })], wanted);
    assert.deepEqual(found, ['r 10.244.7.0/24']);
  });

  it('a route by nexthop is as it should be where the kernel lists its nexthop alone', () => {
    const { entries } = desired([lease(7)]);
    const actual = new ActualEntries(ownership, entries);
    const bare = { gateway: undefined, device: 0, onlink: false, protocol: 80, nexthop: 183764736 };
    actual.route(route('10.244.7.0/24', bare));
    assert.deepEqual(
      changes(actual.entries, entries).filter((line) => line.includes(' r ')),
      [],
    );
  });

  it('not entries that the kernel made itself', () => {
    const neighbours: ListedNeighbour[] = [
      { device: 5, address: parseAddress('10.244.7.0'), mac: '02:00:00:00:00:07', state: 0x04 },
      { device: 5, address: parseAddress('10.244.8.0'), mac: '02:00:00:00:00:08', state: 0x80 },
    ];
    const forwarding: ListedFdbEntry[] = [
      { device: 5, mac: '02:00:00:00:00:07', destination: parseAddress('192.0.2.7'), state: 0x02 },
      { device: 5, mac: '02:00:00:00:00:08', destination: parseAddress('192.0.2.8'), state: 0x80 },
    ];
    const actual = new ActualEntries(ownership, new Map());
    for (const entry of neighbours) actual.neighbour(entry);
    for (const entry of forwarding) actual.fdb(entry);
    assert.deepEqual([...actual.entries.keys()], ['n 10.244.8.0', 'f 02:00:00:00:00:08 ipv4']);
  });
});
