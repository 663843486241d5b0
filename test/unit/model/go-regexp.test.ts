import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTwillError } from '../../../src/model/error.ts';
import { goRegExp } from '../../../src/model/go-regexp.ts';

/** Pattern, what it matches, what it does not: as Go's regexp.MatchString has it. */
const cases: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['th[12]', ['eth1', 'eth2'], ['eth3']],
  ['^192\\.0\\.', ['192.0.2.1'], ['1920.2.1']],
  ['(?i)^ETH', ['eth0', 'Eth0'], ['xeth']],
  ['(?is)^ETH.$', ['eth0'], ['eth10']],
  ['^eth[[:digit:]]+$', ['eth0', 'eth17'], ['ethd', 'eth:']],
  ['^[^[:digit:]]+$', ['eth'], ['eth0']],
  ['^[[:alpha:]_-]+$', ['wg_a-b'], ['wg0']],
  ['\\Aeth0\\z', ['eth0'], ['eth01', 'xeth0']],
  ['^\\Qeth0.5\\E$', ['eth0.5'], ['eth0x5']],
  ['^\\Qa+', ['a+b'], ['aa']],
  ['^(?P<kind>en|eth)', ['enp0s3', 'eth0'], ['wlan0']],
  ['^[]a]$', [']', 'a'], ['b']],
  ['^[^]a]$', ['b'], [']', 'a']],
  ['^[[a]$', ['[', 'a'], ['b']],
  ['^[\\]]$', [']'], ['\\']],
  ['bond|team', ['bond0', 'team1'], ['eth0']],
];

describe('patterns are read as Go reads them', () => {
  for (const [pattern, matching, others] of cases)
    it(pattern, () => {
      const expression = goRegExp(pattern);
      for (const text of matching) assert.ok(expression.test(text), text);
      for (const text of others) assert.ok(!expression.test(text), text);
    });

  for (const pattern of ['(', '[[:digits:]]', 'eth[', '*eth', '(?x)eth'])
    it(`${pattern} is refused and named`, () => {
      assert.throws(
        () => goRegExp(pattern),
        (error) => isTwillError(error, 'invalid') && error.message.includes(`'${pattern}'`),
      );
    });
});
