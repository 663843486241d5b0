import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { toYaml } from '../../../src/inspect/plan/yaml.ts';

const texts = [
  ...[
    '',
    ' ',
    'a b',
    ' a',
    'a ',
    'a: b',
    'a:b',
    'a #b',
    '#',
    '- a',
    '-',
    '---',
    '...',
    '?',
    '*a',
    '&a',
    '!a',
    '%a',
  ],
  ...[
    'true',
    'False',
    'NULL',
    'no',
    'On',
    'y',
    'NaN',
    '.inf',
    '~',
    '1',
    '-1',
    '1.5',
    '1e3',
    '0x10',
    '0o7',
    '1:20',
  ],
  ...[
    '2026-11-26',
    '10.244.0.0/16',
    '02:00:00:00:00:01',
    'fd00::/64',
    "it's",
    '"',
    '\\',
    'a\nb',
    'a\tb',
    '\u0000',
  ],
  ...[
    '\u0085',
    '\u2028',
    '\ufeff',
    'ä',
    '\u{1f600}',
    '{a}',
    '[a]',
    'a, b',
    '|',
    '>',
    '`',
    '@',
    'a@b',
    '<<',
    '=',
  ],
];

describe('answers as YAML', () => {
  it('are read as what they were', () => {
    const values: unknown[] = [
      {},
      [],
      null,
      { a: [], b: {}, c: null, d: [[]], e: [{}], f: 0, g: -1.5, h: false },
      { a: { b: { c: [{ d: 1, e: [{ f: 2 }, [3, [4]]] }, 'x'] } }, 'a b': 1, 'a: b': 2, '': 3, yes: 4, 1: 5 },
      [[{ a: 1, b: [1] }], [[]], [[[1]], 2]],
      texts,
      Object.fromEntries(texts.map((text) => [text, { [text]: [text] }])),
    ];
    for (const value of values) {
      const yaml = toYaml(value);
      assert.deepEqual(parse(yaml), value, yaml);
      // Also as YAML 1.1, which other programs read still.
      assert.deepEqual(parse(yaml, { version: '1.1' }), value, yaml);
    }
  });

  it('have no character that a reader of YAML may refuse', () => {
    // c-printable of YAML 1.1 (https://yaml.org/spec/1.1/#id868524), which is all that readers in C and Python take.
    const printable = /^[\t\n\r\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u;
    const all = Array.from({ length: 0x1_0000 }, (_, code) => String.fromCharCode(code));
    for (const character of all) assert.match(toYaml({ a: `${character}b` }), printable);
  });

  it('leave out what is undefined, and are laid out as people write them', () => {
    assert.equal(
      toYaml({ version: 1, away: undefined, pods: [{ name: 'web', addresses: ['10.0.0.1/24'] }], none: [] }),
      'version: 1\npods:\n  - name: web\n    addresses:\n      - "10.0.0.1/24"\nnone: []\n',
    );
  });
});
