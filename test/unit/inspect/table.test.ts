import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { screenOf } from '../../../src/inspect/output.ts';
import { type Cell, colourPaint, formatTable } from '../../../src/inspect/table.ts';
import { wrapText } from '../../../src/model/text.ts';

const rows: readonly (readonly Cell[])[] = [
  [
    'a',
    { text: 'wrong', tone: 'bad' },
    { text: `${'word '.repeat(30)}end`, below: 'ip route show 10.0.0.0/8' },
  ],
  ['longer', 'ok', ''],
];

describe('tables', () => {
  it('break what the last column says, keep a command whole, and are no wider than the screen', () => {
    const text = formatTable(['NAME', 'STATE', 'DETAIL'], rows, { width: 60 });
    const lines = text.split('\n');
    assert.equal(lines[0], 'NAME    STATE  DETAIL');
    assert.match(lines[1]!, /^a {7}wrong {2}word word/);
    assert.ok(lines.includes(`${' '.repeat(15)}$ ip route show 10.0.0.0/8`));
    assert.equal(lines.at(-2), 'longer  ok');
    for (const line of lines) assert.ok(line.length <= 60, line);
  });

  it('have colours that change no column', () => {
    const plain = formatTable(['NAME', 'STATE', 'DETAIL'], rows, { width: 60 });
    const painted = formatTable(['NAME', 'STATE', 'DETAIL'], rows, { width: 60, paint: colourPaint });
    assert.ok(painted.includes('\u001b[31mwrong'));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    assert.equal(painted.replace(/\u001b\[\d+m/g, ''), plain);
  });

  it('a word that is longer than the column has a line of its own', () => {
    assert.deepEqual(wrapText('see verylongword now', 6), ['see', 'verylongword', 'now']);
  });

  it('colours are for terminals, and for who wants them', () => {
    const terminal = { isTTY: true, columns: 120 } as NodeJS.WriteStream;
    assert.equal(screenOf(terminal, {}).paint('x', 'bad'), '\u001b[31mx\u001b[0m');
    assert.equal(screenOf(terminal, {}).width, 120);
    assert.equal(screenOf(terminal, { NO_COLOR: '1' }).paint('x', 'bad'), 'x');
    const pipe = { isTTY: false } as NodeJS.WriteStream;
    assert.equal(screenOf(pipe, {}).paint('x', 'bad'), 'x');
    assert.equal(screenOf(pipe, {}).width, 100);
  });
});
