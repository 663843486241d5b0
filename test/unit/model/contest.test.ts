import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Contest } from '../../../src/model/contest.ts';

const second = 1000;
const minute = 60 * second;

describe('contested objects', () => {
  it('the first three repairs follow at once, then the waits double up to a minute', () => {
    const contest = new Contest();
    const waits: number[] = [];
    const begins: boolean[] = [];
    let now = 0;
    for (let repair = 0; repair < 12; repair++) {
      begins.push(contest.note('r 10.244.1.0/24', now).begins);
      const wait = contest.wait('r 10.244.1.0/24', now);
      waits.push(wait / second);
      now += wait;
      assert.equal(contest.wait('r 10.244.1.0/24', now), 0, 'when the wait is over it is repaired');
    }
    assert.deepEqual(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert.deepEqual(begins.indexOf(true), 3);
    assert.equal(begins.filter(Boolean).length, 1, 'it is told once');
  });

  it('objects are told apart, and one that is left alone for five minutes is free again', () => {
    const contest = new Contest();
    for (let repair = 0; repair < 5; repair++) contest.note('a', 0);
    contest.note('b', 0);
    assert.deepEqual(contest.contested(0), ['a']);
    assert.equal(contest.wait('b', 0), 0);
    assert.ok(contest.wait('a', 0) > 0);
    assert.deepEqual(contest.contested(5 * minute), []);
    assert.equal(contest.note('a', 5 * minute).count, 1);
    assert.equal(contest.wait('a', 5 * minute), 0);
  });

  it('many objects do not fill the memory', () => {
    const contest = new Contest();
    for (let object = 0; object < 10_000; object++)
      for (let repair = 0; repair < 5; repair++) contest.note(String(object), object);
    assert.ok(contest.contested(10_000).length <= 1002);
  });
});
