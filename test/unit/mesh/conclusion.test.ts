import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Conclusion, conclude, isUncertain } from '../../../src/mesh/plan/conclusion.ts';
import {
  type Asked,
  countLost,
  newPartner,
  noteAsked,
  type PartnerRecord,
  type Reply,
} from '../../../src/mesh/plan/record.ts';

const answered = (servesOverlay = true): Reply => ({
  kind: 'answered',
  micros: 300,
  facts: { servesOverlay, heard: false, largest: 1448 },
});
const letters: Readonly<Record<string, Reply | undefined>> = {
  a: answered(),
  n: answered(false),
  r: { kind: 'refused' },
  l: { kind: 'lost' },
  u: { kind: 'unsent', why: 'EPERM' },
  '-': undefined,
};

/** A word for each time a node was asked: what came by the underlay, by the overlay, and of a large one if one was sent. */
function after(history: string): PartnerRecord {
  let record = newPartner('192.0.2.2 10.244.2.0');
  for (const word of history.split(' ').filter((one) => one !== '')) {
    const [times = '1'] = /\d+$/.exec(word) ?? [];
    const large = letters[word[2]!];
    const asked: Asked = {
      underlay: letters[word[0]!],
      overlay: letters[word[1]!],
      large: large && { bytes: 1448, reply: large },
      heard: undefined,
    };
    for (let time = 0; time < Number(times); time++) record = noteAsked(record, asked, 1);
  }
  return record;
}

const cases: readonly [history: string, conclusion: Conclusion, uncertain: boolean][] = [
  ['', 'unknown', false],
  ['aa', 'reached', false],
  // One packet is lost now and then.
  ['aa al', 'reached', true],
  ['aa al al', 'reached', true],
  ['aa al al al', 'overlay', false],
  ['aa au3', 'overlay', false],
  ['al2', 'unknown', true],
  ['al3', 'overlay', false],
  ['al9 aa', 'reached', false],
  // Refused by the kernel at the other end is as good as answered: it is there.
  ['rr', 'refused', false],
  ['rl3', 'overlay', false],
  ['aa rr', 'refused', false],
  ['rr aa', 'reached', false],
  ['ra', 'reached', false],
  // Kernels send few refusals: what is missing of these is no loss.
  ['rr6 ll2 rr', 'refused', false],
  ['rr ll2 rr ll2 rr ll2 rr', 'refused', false],
  // A firewall before the nodes' port alone: pods are reached.
  ['la', 'reached', true],
  ['la3', 'reached', false],
  ['lr3', 'refused', false],
  // Neither: it says nothing where it never did.
  ['ll', 'unknown', true],
  ['ll3', 'silent', false],
  ['ll40', 'silent', false],
  ['aa ll2', 'reached', true],
  ['aa ll3', 'lost', false],
  ['la3 ll3', 'lost', false],
  // What was lost while it was away says nothing of the overlay.
  ['aa ll9 al', 'unknown', true],
  ['aa ll9 al al', 'unknown', true],
  ['aa ll9 al3', 'overlay', false],
  ['aa ll9 aa', 'reached', false],
  ['aa al3 ll3', 'lost', false],
  // No overlay address, there or here.
  ['nl9', 'unserved', false],
  ['a-', 'unserved', false],
  ['nl9 al3', 'overlay', false],
  ['nl9 aa', 'reached', false],
  ['l-3', 'silent', false],
  ['a- l-3', 'lost', false],
  // An answer says more than what is said about it.
  ['na', 'reached', false],
  // Large packets.
  ['aaa', 'reached', false],
  ['aaa aal', 'reached', true],
  ['aaa aal2 aaa', 'reached', false],
  ['aaa aal3', 'small', false],
  ['aal3', 'small', false],
  ['laa laa laa', 'reached', false],
  ['aal3 aaa', 'reached', false],
  ['aal9 aar', 'reached', false],
  // An agent of before that answers none, one that was stopped: nothing is known any more.
  ['aal9 aa', 'reached', false],
  ['aal9 rr', 'refused', false],
  ['aal9 al3', 'overlay', false],
  ['aal9 al3 aal', 'reached', true],
  ['aal9 ll3', 'lost', false],
  // Packets are lost, now and then one gets through.
  ['aa6 al2', 'lossy', true],
  ['aa6 al2 aa20 al3 aa', 'reached', false],
  ['aa7 al', 'reached', true],
  ['aa6 ll2 aa', 'reached', false],
  ['aa4 ll2 aa ll2 aa', 'lossy', false],
];

describe('what is to be thought of a node', () => {
  for (const [history, conclusion, uncertain] of cases)
    it(`after '${history}' it is ${conclusion}`, () => {
      const record = after(history);
      assert.deepEqual([conclude(record), isUncertain(record)], [conclusion, uncertain]);
    });

  it('counts what was lost of the last 32, not more', () => {
    const { underlay } = after('ll40');
    assert.deepEqual([underlay.asked, countLost(underlay), underlay.streak], [32, 32, 40]);
    assert.equal(countLost(after('ll2 aa30').underlay), 2);
    assert.equal(countLost(after('ll2 aa31').underlay), 1);
    // An outage that has ended says nothing of how it is now.
    assert.equal(countLost(after('ll3 aa').underlay), 0);
  });

  it('remembers of large ones how large they were, how many were lost, and whether these were heard', () => {
    const lost: Asked = {
      underlay: answered(),
      overlay: answered(),
      large: { bytes: 1448, reply: { kind: 'lost' } },
      heard: false,
    };
    const record = noteAsked(noteAsked(newPartner('x'), lost, 1), { ...lost, heard: undefined }, 2);
    assert.deepEqual([record.largeLost, record.largeBytes, record.heard], [2, 1448, false]);
    const through = noteAsked(record, { ...lost, large: { bytes: 1400, reply: answered() } }, 3);
    assert.deepEqual([through.largeLost, through.largeBytes, through.heard], [0, 1400, undefined]);
  });

  it('remembers whether the overlay was heard, as long as it is silent', () => {
    const torn: Asked = { underlay: answered(), overlay: { kind: 'lost' }, heard: true };
    const record = noteAsked(newPartner('x'), torn, 1);
    assert.equal(record.heard, true);
    assert.equal(noteAsked(record, { ...torn, heard: undefined }, 2).heard, true);
    assert.equal(noteAsked(record, { ...torn, heard: false }, 2).heard, false);
    assert.equal(noteAsked(record, { ...torn, overlay: answered() }, 2).heard, undefined);
  });
});
