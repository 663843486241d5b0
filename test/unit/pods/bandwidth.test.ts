import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planBucket } from '../../../src/pods/plan/bandwidth.ts';

test('a token bucket has the burst that was chosen, and a sensible one where none was', () => {
  const rate = 80_000_000;
  assert.equal(planBucket(rate, 8_000_000)?.burst, 1_000_000);
  const usual = planBucket(rate, undefined)?.burst;
  assert.equal(usual, 500_000);
  assert.equal(planBucket(rate, 0)?.burst, usual);
  assert.equal(planBucket(rate, 0xffff_ffff)?.burst, usual, 'what containerd sends where nobody has chosen');
  assert.equal(planBucket(undefined, 8_000_000), undefined);
});
