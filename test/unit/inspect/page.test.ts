import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MOST_TEXT, rowsEvent } from '../../../src/inspect/page/plan/changes.ts';
import { nodeRows, serviceRows, statusEvent } from '../../../src/inspect/page/plan/rows.ts';
import { traceView } from '../../../src/inspect/page/plan/trace-view.ts';
import { eventText } from '../../../src/inspect/page/plan/view.ts';
import type { PeerRow } from '../../../src/inspect/plan/peer-rows.ts';
import type { Problem } from '../../../src/inspect/plan/problem.ts';
import type { StatusAnswer } from '../../../src/inspect/plan/status.ts';
import type { TraceAnswer, TraceWay } from '../../../src/inspect/trace/plan/answer.ts';
import type { MeshPartner } from '../../../src/mesh/plan/state.ts';
import type { ServiceRow } from '../../../src/services/plan/row.ts';

const peer = (index: number, troubles: readonly string[] = [], mesh?: MeshPartner): PeerRow => {
  const subnet = `10.${Math.floor(index / 256)}.${index % 256}.0/24`;
  return {
    lease: subnet.replace('/', '-'),
    subnet,
    nextHop: undefined,
    vtepMac: undefined,
    underlay: `192.0.2.${index % 256}`,
    device: 'flannel.1',
    route: 'ok',
    nexthop: 'ok',
    neighbour: 'ok',
    fdb: 'ok',
    way: `via ${subnet} dev flannel.1`,
    wayIsRight: true,
    underlayWay: 'dev eth0',
    mesh,
    troubles,
  };
};

const rest = { foreign: [], away: undefined };

describe('what the page is told of nodes', () => {
  it('is all of them once, then what has changed, and nothing while nothing does', () => {
    const first = nodeRows([peer(1), peer(2), peer(3)]);
    assert.equal(rowsEvent(first, undefined).rows.length, 3);
    const second = nodeRows([peer(1), peer(2, ['its route is missing'])]);
    const change = rowsEvent(second, first);
    assert.equal(change.whole, false);
    assert.deepEqual(
      change.rows.map(([subnet, , , , , trouble]) => [subnet, trouble]),
      [['10.0.2.0/24', 'its route is missing']],
    );
    assert.deepEqual(change.gone, ['10.0.3.0/24']);
    const none = rowsEvent(second, second);
    assert.deepEqual([none.rows, none.gone], [[], []]);
  });

  it('has what was measured of each: the times, and a loss that is no fault of this node’s as a doubt', () => {
    const path = (lost: number) => ({ asked: 32, lost, roundTripMs: 0.34567 });
    const partner = (conclusion: MeshPartner['conclusion'], lost: number): MeshPartner => ({
      name: 'b',
      family: 'ipv4',
      underlayAddress: '192.0.2.1',
      overlayAddress: '10.0.1.0',
      conclusion,
      underlay: path(0),
      overlay: path(lost),
      heard: false,
      large: undefined,
      unsent: undefined,
      askedSecondsAgo: 1,
    });
    const cells = (mesh: MeshPartner | undefined, troubles: readonly string[] = []) =>
      [...nodeRows([peer(1, troubles, mesh)]).rows.values()][0]!.slice(5);
    assert.deepEqual(cells(undefined), ['', '', '']);
    assert.deepEqual(cells(partner('reached', 0)), ['', '', '0.35 ms']);
    const lossy =
      'packets to b (192.0.2.1) are lost: 0 of the last 32 by the underlay, 9 of the last 32 by the overlay';
    assert.deepEqual(cells(partner('lossy', 9)), ['', lossy, '0.35 ms, 9 of 32 lost']);
    assert.deepEqual(cells(partner('overlay', 32), ['by the underlay only']).slice(0, 2), [
      'by the underlay only',
      '',
    ]);
  });

  it('is bounded: 5,000 nodes are some hundred kilobytes, of 20,000 those that are troubled are told', () => {
    const many = Array.from({ length: 5000 }, (_, index) => peer(index));
    const text = eventText('nodes', { ...rowsEvent(nodeRows(many), undefined), ...rest });
    assert.ok(text.length < 400_000, `${text.length}`);
    const more = Array.from({ length: 20_000 }, (_, index) => peer(index, index === 19_999 ? ['gone'] : []));
    const { rows, more: left } = nodeRows(more);
    assert.equal(left, 10_000);
    assert.equal([...rows.values()][0]![5], 'gone');
  });

  it('counts none twice: of two nodes of one name the troubled one is told', () => {
    const { rows, more } = nodeRows([peer(1), peer(1, ['gone']), peer(2)]);
    assert.equal(more, 0);
    assert.equal(rows.size, 2);
    assert.equal([...rows.values()][0]![5], 'gone');
  });

  it('has no line end of its own, whatever a lease or a reason has', () => {
    const peers = nodeRows([peer(1, ['a\n\nevent: beat\ndata: {}'])]);
    const text = eventText('nodes', { ...rowsEvent(peers, undefined), ...rest });
    assert.equal(text.indexOf('\n\n'), text.length - 2);
    assert.equal(text.split('\n').length, 4);
  });
});

describe('what the page is told of Services', () => {
  const row = (index: number, trouble?: string, name = `shop/a${index}`): ServiceRow => ({
    name,
    type: 'ClusterIP',
    clusterIPs: [`10.96.${index >> 8}.${index & 255}`],
    externalIPs: [],
    loadBalancerIPs: [],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 0 }],
    endpoints: { ready: 5, local: 0, terminating: 0, notReady: 0 },
    internalPolicy: 'Cluster',
    externalPolicy: 'Cluster',
    affinitySeconds: 0,
    sourceRanges: [],
    healthCheckNodePort: 0,
    trouble,
  });
  const many = (count: number, name?: string): ServiceRow[] =>
    Array.from({ length: count }, (_, index) => row(index, undefined, name && `${name}${index}`));

  it('is all ten thousand of them once, then the one that has changed', () => {
    const first = serviceRows(many(10_000));
    const text = eventText('services', { ...rowsEvent(first, undefined), away: undefined });
    assert.equal(first.more, 0);
    assert.ok(text.length < 1_000_000, `${text.length}`);
    const second = serviceRows([...many(9999), row(9999, 'it has no endpoints')]);
    const { whole, rows, gone } = rowsEvent(second, first);
    assert.deepEqual([whole, rows.map(([name]) => name), gone], [false, ['shop/a9999'], []]);
    assert.deepEqual(rowsEvent(serviceRows(many(10_000)), first).rows, []);
  });

  it('is not crowded out by Services of thousands of ports or addresses', () => {
    const some = Array.from({ length: 40_000 }, (_, index) => index + 1);
    const ports = some.map((port) => ({ name: `p${port}`, protocol: 'TCP' as const, port, nodePort: 0 }));
    const large = [1, 2, 3].map((index) => ({
      ...row(index, 'it has no endpoints', `shop/large${index}`),
      ports,
      externalIPs: some.map((at) => `192.0.${at >> 8}.${at & 255}`),
    }));
    const { rows, more } = serviceRows([...large, ...many(500)]);
    assert.deepEqual([rows.size, more], [503, 0]);
    const [, , , others, shown, , , morePorts] = rows.get('shop/large1')!;
    assert.deepEqual(shown[0], ['p1', 1, 0, 'TCP']);
    assert.equal(shown.length + morePorts, 40_000);
    assert.equal(others.at(-1), `and ${40_000 - others.length + 1} more`);
    assert.equal(rows.get('shop/a7')?.at(-1), 0);
  });

  it('is no longer than a slow page may lag behind, and of the others is said how many there are', () => {
    const long = [...many(10_000, `${'n'.repeat(63)}/${'s'.repeat(55)}`), row(10_000, 'it has no endpoints')];
    const { rows, more } = serviceRows(long);
    assert.ok(more > 0 && rows.size + more === 10_001, `${rows.size} and ${more}`);
    assert.equal([...rows.keys()][0], 'shop/a10000');
    const { rows: told } = rowsEvent({ rows, more }, undefined);
    assert.ok(JSON.stringify(told).length <= MOST_TEXT + 2);
    const troubled = nodeRows(Array.from({ length: 10_000 }, (_, index) => peer(index, ['x'.repeat(500)])));
    assert.ok(troubled.more > 0);
    assert.ok(JSON.stringify([...troubled.rows.values()]).length <= MOST_TEXT + 2);
  });
});

it('of problems the worst come first, and of the others is said how many there are', () => {
  const problem = (severity: Problem['severity']): Problem => ({
    severity,
    area: 'x',
    what: 'y'.repeat(5000),
  });
  const problems = [
    ...Array.from({ length: 100 }, () => problem('note')),
    problem('degraded'),
    problem('down'),
  ];
  const status = statusEvent({ problems, peers: { count: 0, skipped: [] } } as unknown as StatusAnswer);
  assert.deepEqual([status.problems.length, status.more], [60, 42]);
  assert.deepEqual(
    status.problems.slice(0, 3).map(({ severity }) => severity),
    ['down', 'degraded', 'note'],
  );
  assert.ok(status.problems.every(({ what }) => what.length < 500));
});

it('of a trace by a hundred ways those that die are shown first', () => {
  const way = (result: TraceWay['result']): TraceWay => ({
    share: '1/1000',
    probability: 0.001,
    conditions: [],
    masqueraded: false,
    result,
    where: 'node',
    reason: 'so it is',
    packet: { source: '10.0.0.1', destination: '10.0.0.2' },
    steps: Array.from({ length: 400 }, (_, index) => ({ where: 'node', kind: 'note', text: `${index}` })),
    back: [],
  });
  const answer: TraceAnswer = {
    version: 1,
    from: { name: 'a', address: '10.0.0.1' },
    to: { name: 'b', address: '10.0.0.2' },
    protocol: 'tcp',
    verdict: 'dies',
    notes: [],
    ways: [...Array.from({ length: 99 }, () => way('delivered')), way('died')],
  };
  const view = traceView(answer);
  assert.deepEqual([view.ways.length, view.moreWays, view.ways[0]!.tone, view.cut], [24, 76, 'bad', true]);
  assert.match(view.ways[0]!.text, /^DIES at node: so it is$/);
  assert.ok(JSON.stringify(view).length < 200_000);
});
