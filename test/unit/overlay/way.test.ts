import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { ROUTE_PROTOCOL, type RouteEntry, routeKey } from '../../../src/overlay/plan/entries.ts';
import {
  askedRoutes,
  coveringRoute,
  type PacketWay,
  WayTurns,
  wayProblems,
} from '../../../src/overlay/plan/way.ts';

const TUNNEL = 5;

/** A route of ours; by the tunnel unless a node is on the link. */
function route(subnet: string, node?: string): RouteEntry {
  const destination = parsePrefix(subnet);
  return {
    kind: 'route',
    key: routeKey(destination),
    destination,
    gateway: node === undefined ? destination.address : parseAddress(node),
    device: node === undefined ? TUNNEL : 2,
    onlink: node === undefined,
    protocol: ROUTE_PROTOCOL,
    nexthop: undefined,
  };
}

const way = (device: number, gateway?: string, local = false): PacketWay => ({
  device,
  local,
  gateway: gateway === undefined ? undefined : parseAddress(gateway),
});
const names: Readonly<Record<number, string>> = { 2: 'eth0', 3: 'wg0', [TUNNEL]: 'flannel.1' };
const nameOf = (device: number): string => names[device] ?? '?';

describe('packets that do not take our routes', () => {
  it('are not told of where all do, by tunnel and by the link', () => {
    const asked = [
      { route: route('10.244.5.0/24'), way: way(TUNNEL, '10.244.5.0') },
      { route: route('fd00:244:0:5::/64'), way: way(TUNNEL, 'fd00:244:0:5::') },
      { route: route('10.244.6.0/24', '192.0.2.6'), way: way(2, '192.0.2.6') },
      // A router has said that there is a shorter way.
      { route: route('10.244.7.0/24', '192.0.2.7'), way: way(2, '192.0.2.8') },
    ];
    assert.deepEqual(wayProblems(asked, nameOf), []);
  });

  it('are named with what happens to them, and what to do', () => {
    const asked = [
      { route: route('10.244.5.0/24'), way: way(3) },
      { route: route('10.244.6.0/24'), way: undefined },
      { route: route('10.244.7.0/24'), way: way(1, undefined, true) },
      { route: route('10.244.8.0/24'), way: way(TUNNEL, '10.244.99.0') },
      { route: route('10.244.9.0/24'), way: way(TUNNEL, '10.244.9.0') },
    ];
    const [problem, ...rest] = wayProblems(asked, nameOf);
    assert.deepEqual(rest, []);
    assert.equal(problem?.state, 'warning');
    assert.match(
      problem?.detail ?? '',
      /^packets to pods of 4 of 5 nodes .*10\.244\.5\.0\/24 leave by wg0 instead of by flannel\.1, .*10\.244\.6\.0\/24 are discarded .*10\.244\.7\.0\/24 stay on this node .*, and so on; .*'ip route get 10\.244\.5\.1'/,
    );
  });

  it('are looked for behind routes that others set across ours', () => {
    const ours = route('10.244.5.0/24');
    const entries = new Map([[ours.key, ours]]);
    const found = (text: string) => coveringRoute(entries, parsePrefix(text), 24);
    assert.equal(found('10.244.5.0/24'), ours);
    assert.equal(found('10.244.5.7/32'), ours);
    assert.equal(found('10.244.0.0/16'), undefined);
    assert.equal(found('10.244.6.0/25'), undefined);
  });

  it("are the pods' own where the node's are right, and discarded where nobody says a way for them", () => {
    const ours = route('10.244.5.0/24');
    const right = way(TUNNEL, '10.244.5.0');
    const judged = (own: PacketWay | undefined, ofPods?: [PacketWay | undefined]) =>
      askedRoutes([ours], [own], ofPods)[0]?.way;
    assert.equal(judged(right), right);
    assert.deepEqual(judged(right, [way(3)]), way(3));
    assert.equal(judged(right, [undefined]), undefined);
    assert.deepEqual(judged(way(2), [right]), way(2));
  });
});

describe('routes are asked for', () => {
  const all = Array.from({ length: 1000 }, (_, index) => route(`10.${index >> 8}.${index & 255}.0/24`));
  const entries = new Map(all.map((one) => [one.key, one]));
  const answers = (routes: readonly RouteEntry[], wrong: (one: RouteEntry) => boolean) =>
    routes.map((one) => ({ route: one, way: wrong(one) ? undefined : way(TUNNEL, one.gateway?.text) }));

  it('each in its turn, those that were wrong every time, but no more than a few hundred', () => {
    const turns = new WayTurns();
    const seen = new Set<RouteEntry>();
    for (let look = 0; look < 4; look++) {
      const next = turns.next(entries);
      assert.ok(next.includes(all[0]!));
      for (const one of next) seen.add(one);
      turns.answered(answers(next, (one) => one === all[0]));
    }
    assert.equal(seen.size, all.length);
    for (let look = 0; look < 8; look++) {
      const next = turns.next(entries);
      assert.ok(next.length <= 512, `${next.length} at once`);
      turns.answered(answers(next, () => true));
    }
  });

  it('again at once where somebody sets something across one while the kernel is asked', () => {
    const turns = new WayTurns();
    const next = turns.next(entries);
    for (const one of [all[1]!, all[900]!]) turns.crossedBy(one);
    turns.answered(answers(next, () => false));
    const again = turns.next(entries);
    for (const one of [all[1]!, all[900]!]) assert.ok(again.includes(one));
    turns.answered(answers(again, () => false));
    assert.ok(!turns.next(entries).includes(all[1]!));
  });

  it('again where an answer did not come', () => {
    const turns = new WayTurns();
    turns.crossedBy(all[900]!);
    for (let look = 0; look < 2; look++) assert.ok(turns.next(entries).includes(all[900]!));
  });
});
