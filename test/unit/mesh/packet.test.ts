import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  isQuestion,
  makeAnswer,
  makeQuestion,
  PACKET_BYTES,
  pairOf,
  questionBytes,
  readAnswer,
} from '../../../src/mesh/plan/packet.ts';
import { Quota } from '../../../src/mesh/plan/quota.ts';

const pair = Uint8Array.from({ length: 8 }, (_, index) => index);
const token = Uint8Array.from({ length: 16 }, (_, index) => 100 + index);
const question = makeQuestion(pair, token);

describe('questions and answers', () => {
  it('are of one length, and say what they are to say', () => {
    assert.equal(question.length, PACKET_BYTES);
    assert.ok(isQuestion(question));
    assert.equal(pairOf(question), '0001020304050607');
    for (const servesOverlay of [true, false])
      for (const heard of [true, false]) {
        for (const largest of [0, 1280, 1448, 8952, 65_532]) {
          const answer = makeAnswer(question, { servesOverlay, heard, largest });
          assert.equal(answer.length, question.length);
          assert.ok(!isQuestion(answer), 'an answer must not be answered');
          assert.deepEqual(readAnswer(question, answer), { servesOverlay, heard, largest });
        }
      }
    // What is said is never more than there is, and what is larger than packets are is not said.
    const said = (largest: number): number | undefined =>
      readAnswer(question, makeAnswer(question, { servesOverlay: true, heard: true, largest }))?.largest;
    assert.deepEqual([said(1450), said(1451), said(100_000)], [1448, 1448, 65_532]);
  });

  it('may be as large as packets of pods, to the byte', () => {
    for (const [family, headers] of [
      ['ipv4', 28],
      ['ipv6', 48],
    ] as const) {
      const large = makeQuestion(pair, token, questionBytes({ name: family }, 1450));
      assert.equal(large.length + headers, 1450);
      assert.ok(isQuestion(large));
      const answer = makeAnswer(large, { servesOverlay: true, heard: false, largest: 1450 });
      assert.equal(answer.length, large.length);
      assert.equal(readAnswer(large, answer)?.largest, 1448);
      // Cut, or another one's, it is no answer.
      assert.equal(readAnswer(large, answer.subarray(0, PACKET_BYTES)), undefined);
      assert.equal(readAnswer(question, answer), undefined);
      assert.equal(questionBytes({ name: family }, 100), undefined);
    }
  });

  it('are not taken for anything else: every byte counts, and every length', () => {
    const answer = makeAnswer(question, { servesOverlay: true, heard: false, largest: 1448 });
    for (let at = 0; at < PACKET_BYTES; at++) {
      // Facts may be anything.
      if (at === 6 || at === 7) continue;
      const changed = Uint8Array.from(answer);
      changed[at] = changed[at]! ^ 0x80;
      assert.equal(readAnswer(question, changed), undefined, `byte ${at}`);
    }
    for (let length = 0; length < PACKET_BYTES; length++) {
      assert.ok(!isQuestion(question.subarray(0, length)));
      assert.equal(readAnswer(question, answer.subarray(0, length)), undefined);
    }
    assert.ok(!isQuestion(Uint8Array.from([...question, 0])));
    assert.equal(readAnswer(question, question), undefined);
  });
});

describe('what answering may cost', () => {
  it('is bounded for each sender, and for all, in each second', () => {
    const quota = new Quota();
    const verdicts = (sender: string, times: number, at: number): Record<string, number> => {
      const found: Record<string, number> = {};
      for (let time = 0; time < times; time++) {
        const verdict = quota.take(sender, at);
        found[verdict] = (found[verdict] ?? 0) + 1;
      }
      return found;
    };
    assert.deepEqual(verdicts('a', 100, 0), { answer: 40, 'pass over': 60 });
    assert.deepEqual(verdicts('b', 10, 10), { answer: 10 });
    assert.deepEqual(verdicts('c', 1000, 20), { answer: 40, 'pass over': 250, flood: 710 });
    assert.deepEqual(verdicts('a', 40, 1000), { answer: 40 });
  });
});
