import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatTable } from '../../../src/inspect/table.ts';
import { describeError } from '../../../src/model/error.ts';
import { formatCheck } from '../../../src/model/health.ts';
import { oneLine } from '../../../src/model/text.ts';
import { LogLimiter } from '../../../src/process/log.ts';

const nasty = 'a\nb\rc\u001b[31md\u0085e\u2028f\u202eg\u0000h';
const unprintable = /[\p{Cc}\u2028\u202e]/u;

describe('text from outside', () => {
  it('never ends a line, and is cut with what there was', () => {
    assert.equal(oneLine('a\nb\u001b[0m\u2028'), 'a\\nb\\u001b[0m\\u2028');
    assert.equal(oneLine('x'.repeat(5000), 10), `${'x'.repeat(10)}… (5000 characters)`);
    assert.equal(oneLine('Müller, 中'), 'Müller, 中');
  });

  it('is one line in errors, checks and tables, of whatever size it was', () => {
    const big = nasty.repeat(100_000);
    const lines = [
      describeError(new Error(big)),
      formatCheck({ name: `lease ${nasty}`, state: 'warning', detail: big }).slice(0, -1),
      ...formatTable(['NAME'], [[nasty]])
        .trimEnd()
        .split('\n')
        .slice(1),
    ];
    assert.equal(lines.length, 3);
    for (const line of lines) {
      assert.ok(!unprintable.test(line), line);
      assert.ok(line.length < 20_000, String(line.length));
    }
  });
});

describe('limits of repeated lines', () => {
  it('thousands of names cost a thousand lines in a minute and no more memory', () => {
    const limiter = new LogLimiter(60_000);
    const allowed = (now: number): number => {
      let count = 0;
      for (let name = 0; name < 20_000; name++) if (limiter.allow(`name ${name}`, now) !== undefined) count++;
      return count;
    };
    assert.equal(allowed(0), 1001);
    assert.equal(allowed(30_000), 0);
    assert.equal(allowed(61_000), 1001);
  });

  it('says how often a line was held back', () => {
    const limiter = new LogLimiter(1000);
    assert.deepEqual(
      [0, 1, 2, 1500].map((now) => limiter.allow('x', now)),
      [0, undefined, undefined, 2],
    );
  });
});
