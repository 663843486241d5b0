import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { meshText } from '../../../src/inspect/plan/mesh.ts';
import { Counts } from '../../../src/mesh/counts.ts';
import type { Conclusion } from '../../../src/mesh/plan/conclusion.ts';
import { meshMetricLines } from '../../../src/mesh/plan/metrics.ts';
import { meshFindings, sentenceOf } from '../../../src/mesh/plan/sentences.ts';
import type { MeshPartner } from '../../../src/mesh/plan/state.ts';

const partner = (index: number, conclusion: Conclusion, extra: Partial<MeshPartner> = {}): MeshPartner => ({
  name: `node${index}`,
  family: 'ipv4',
  underlayAddress: `192.0.2.${index}`,
  overlayAddress: `10.244.${index}.0`,
  conclusion,
  underlay: { asked: 10, lost: 1, roundTripMs: 0.2 },
  overlay: { asked: 10, lost: 5, roundTripMs: 0.3 },
  large: undefined,
  heard: undefined,
  unsent: undefined,
  askedSecondsAgo: 3,
  ...extra,
});
const many = (count: number, conclusion: Conclusion, from = 1): MeshPartner[] =>
  Array.from({ length: count }, (_, index) => partner(from + index, conclusion));
const said = (partners: MeshPartner[], port?: number): string[] =>
  meshFindings(partners, port).map(({ severity, what }) => `${severity}: ${what}`);

describe('what is said of a node', () => {
  it('tells in which direction the overlay is broken', () => {
    const start = 'node3 (192.0.2.3) is reached by the underlay but not by the overlay: ';
    const rest: readonly [Partial<MeshPartner>, string][] = [
      [{}, 'nothing comes back from 10.244.3.0'],
      [{ heard: false }, 'packets to 10.244.3.0 do not get there'],
      [{ heard: true }, 'packets get there, the answers from 10.244.3.0 do not come back'],
      [{ unsent: 'EPERM' }, 'this node cannot send to 10.244.3.0: EPERM'],
    ];
    for (const [extra, end] of rest) assert.equal(sentenceOf(partner(3, 'overlay', extra)), start + end);
  });

  it('tells that full-size packets are lost, how large these are, and in which direction', () => {
    const large = { bytes: 1448, lost: 3 };
    const start = 'node3 (192.0.2.3) is reached by small packets but not by full-size ones: ';
    const end = '; connections between pods hang (tracepath 192.0.2.3; Backend.MTU)';
    const rest: readonly [Partial<MeshPartner>, string][] = [
      [{}, 'nothing comes back from 10.244.3.0'],
      [{ heard: false }, 'those of 1448 bytes to 10.244.3.0 do not get there'],
      [{ heard: true }, 'those of 1448 bytes get there, the answers from 10.244.3.0 do not come back'],
    ];
    for (const [extra, middle] of rest)
      assert.equal(sentenceOf(partner(3, 'small', { large, ...extra })), start + middle + end);
    assert.deepEqual(
      meshFindings([partner(1, 'reached'), partner(2, 'small', { large })], 8472).map(
        ({ severity }) => severity,
      ),
      ['warning'],
    );
    const [all] = said(many(3, 'small'));
    assert.match(all!, /^warning: no node is reached by full-size packets, and 3 are by small ones: /);
    // Those are reached by the overlay.
    assert.doesNotMatch(said([...many(2, 'overlay'), partner(3, 'small', { large })]).join(), /no node is/);
  });

  it('is nothing where nothing is wrong, or known', () => {
    for (const conclusion of ['reached', 'refused', 'unserved', 'silent', 'unknown'] as const)
      assert.equal(sentenceOf(partner(1, conclusion)), undefined);
    assert.deepEqual(said([...many(3, 'reached'), ...many(5000, 'silent', 4)]), []);
  });

  it('is a warning where the overlay is broken, a note where a node may be switched off or packets are lost', () => {
    const findings = meshFindings(
      [...many(3, 'reached'), partner(4, 'overlay'), partner(5, 'lost'), partner(6, 'lossy')],
      8472,
    );
    assert.deepEqual(
      findings.map(({ severity, name }) => `${severity} ${name}`),
      ['warning node4', 'note node5', 'note node6'],
    );
  });

  it('names this node where it is all of them, and names few of many', () => {
    const [all, first, ...others] = said(many(5000, 'overlay'), 8472);
    assert.equal(
      all,
      'warning: no node is reached by the overlay, and 5000 are by the underlay: look for what drops UDP port 8472 here or between the nodes',
    );
    assert.match(first!, /^warning: node1 /);
    assert.equal(others.length, 5);
    assert.equal(others.at(-1), 'warning: and 4995 more likewise');
    const cut = said([...many(2, 'lost'), partner(3, 'reached'), partner(4, 'silent')]);
    assert.match(cut[0]!, /^warning: 2 nodes that were reached are not any more/);
    assert.equal(said([...many(2, 'lost'), ...many(3, 'reached', 3)]).length, 2);
    // Two families of one node are one node.
    const both = [partner(1, 'lost'), partner(1, 'lost', { family: 'ipv6' }), partner(2, 'reached')];
    assert.deepEqual(
      meshFindings(both, 8472).map(({ severity }) => severity),
      ['note', 'note'],
    );
    // One other node: it is as likely to be the other one.
    assert.equal(said([partner(1, 'overlay')], 8472).length, 1);
  });
});

it('metrics are as many whatever the number of nodes, and have names where nothing is measured', () => {
  const counts = new Counts();
  for (const micros of [100, 300, 2_000_000])
    counts.note({ kind: 'answered', micros, facts: { servesOverlay: true, heard: false, largest: 0 } });
  counts.note({ kind: 'lost' });
  counts.note({ kind: 'refused' });
  const state = {
    port: 8473,
    intervalSeconds: 10,
    passSeconds: 2500,
    nodes: 5000,
    families: ['IPv4'] as const,
    answersAt: [],
    problem: undefined,
    counts: { underlay: counts.state(), overlay: new Counts().state() },
    answered: 7,
    passedOver: 8,
    conclusions: { reached: 4999, overlay: 1 },
  };
  const lines = meshMetricLines(state);
  assert.ok(lines.length < 70);
  for (const line of [
    'twill_mesh_nodes{conclusion="overlay"} 1',
    'twill_mesh_nodes{conclusion="lost"} 0',
    'twill_mesh_questions_total{path="underlay"} 5',
    'twill_mesh_questions_lost_total{path="underlay"} 1',
    'twill_mesh_round_trip_seconds_bucket{path="underlay",le="0.0002"} 1',
    'twill_mesh_round_trip_seconds_bucket{path="underlay",le="1"} 2',
    'twill_mesh_round_trip_seconds_bucket{path="underlay",le="+Inf"} 3',
    'twill_mesh_round_trip_seconds_count{path="underlay"} 3',
    'twill_mesh_round_trip_seconds_count{path="overlay"} 0',
    'twill_mesh_pass_seconds 2500',
    'twill_mesh_passed_over_total 8',
  ])
    assert.ok(lines.includes(line), line);
  const names = lines.filter((line) => line.startsWith('#'));
  assert.deepEqual(meshMetricLines(undefined), names);
});

it('the line of status says how many are how, and how long they take', () => {
  const mesh = {
    port: 8473,
    intervalSeconds: 10,
    passSeconds: 15,
    nodes: 30,
    families: ['IPv4', 'IPv6'] as const,
    answersAt: ['192.0.2.1'],
    problem: undefined,
    counts: {
      underlay: { asked: 1, lost: 0, seconds: 0, buckets: [] },
      overlay: { asked: 1, lost: 0, seconds: 0, buckets: [] },
    },
    answered: 0,
    passedOver: 0,
    conclusions: { reached: 58, overlay: 2 },
    medianMs: { underlay: 0.214, overlay: 12.3 },
  };
  assert.equal(
    meshText(mesh),
    '30 nodes by IPv4 and IPv6: 58 reached, 2 by the underlay only; median 12 ms by the overlay, 0.21 ms by the underlay; each asked every 15s',
  );
  assert.match(meshText({ ...mesh, answersAt: [] }), /nothing is answered at UDP port 8473/);
  assert.match(meshText(undefined), /--mesh-probe-port/);
});
