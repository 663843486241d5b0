import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, parseDuration } from '../../../src/process/duration.ts';

test('durations are written as Go writes them, and read again', () => {
  for (const [given, written] of [
    ['0', '0s'],
    ['1ns', '1ns'],
    ['1500ns', '1.5µs'],
    ['.5ms', '500µs'],
    ['1.000001ms', '1.000001ms'],
    ['999ms', '999ms'],
    ['1s', '1s'],
    ['1500ms', '1.5s'],
    ['60s', '1m0s'],
    ['59m59.999999999s', '59m59.999999999s'],
    ['90m', '1h30m0s'],
    ['86400s', '24h0m0s'],
    ['-1h0.5s', '-1h0m0.5s'],
  ] as const) {
    assert.equal(formatDuration(parseDuration(given)), written);
    assert.equal(formatDuration(parseDuration(written)), written);
  }
});
