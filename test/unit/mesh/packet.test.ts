import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  isQuestion,
  makeAnswer,
  makeQuestion,
  PACKET_BYTES,
  pairOf,
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
        const answer = makeAnswer(question, { servesOverlay, heard });
        assert.equal(answer.length, question.length);
        assert.ok(!isQuestion(answer), 'an answer must not be answered');
        assert.deepEqual(readAnswer(question, answer), { servesOverlay, heard });
      }
  });

  it('are not taken for anything else: every byte counts, and every length', () => {
    const answer = makeAnswer(question, { servesOverlay: true, heard: false });
    for (let at = 0; at < PACKET_BYTES; at++) {
      // Flags may be anything, and the byte after them is for later versions.
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
