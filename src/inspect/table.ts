import { oneLine } from '../model/text.ts';

/** Characters of a cell. */
const LONGEST_CELL = 200;

/** How a cell is meant: colours in a terminal, nothing elsewhere. */
export type Tone = 'good' | 'poor' | 'bad' | 'faint' | 'strong';

export type Cell = string | { readonly text: string; readonly tone: Tone };

/** Text as it is shown where there is a tone for it. */
export type Paint = (text: string, tone: Tone) => string;

export const plainPaint: Paint = (text) => text;

const codes: Readonly<Record<Tone, number>> = { good: 32, poor: 33, bad: 31, faint: 2, strong: 1 };

export const colourPaint: Paint = (text, tone) => `\u001b[${codes[tone]}m${text}\u001b[0m`;

export interface TableOptions {
  readonly paint?: Paint;
  /** Columns of the screen: what the last column has to say goes on below it; without it lines are as long as they are. */
  readonly width?: number;
}

const textOf = (cell: Cell): string => (typeof cell === 'string' ? cell : cell.text);

/** Breaks a text at its spaces into lines of at most `width` characters; a longer word has a line of its own. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The least that the last column gets, however wide the others are. */
const LEAST_WRAPPED = 30;

/** A table for people: columns padded to their widest cell, two spaces apart, no trailing space. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  { paint = plainPaint, width }: TableOptions = {},
): string {
  const most = width === undefined ? LONGEST_CELL : 10 * LONGEST_CELL;
  const lines = [header, ...rows].map((row, index) =>
    row.map((cell) => {
      const text = index === 0 ? textOf(cell) : oneLine(textOf(cell), most);
      return { text, tone: typeof cell === 'string' ? undefined : cell.tone };
    }),
  );
  const last = header.length - 1;
  const widths = header.map((_, column) =>
    lines.reduce((widest, line) => Math.max(widest, (line[column]?.text ?? '').length), 0),
  );
  const before = widths.slice(0, last).reduce((sum, one) => sum + one + 2, 0);
  const room = width === undefined ? Number.POSITIVE_INFINITY : Math.max(LEAST_WRAPPED, width - before);
  const render = (line: (typeof lines)[number]): string => {
    const shown = line.map(({ text, tone }, column) => {
      if (column < last) {
        const padded = text.padEnd(widths[column] ?? 0);
        return tone === undefined ? padded : paint(padded, tone);
      }
      const parts = text.length > room ? wrapText(text, room) : [text];
      const toned = parts.map((part) => (tone === undefined ? part : paint(part, tone)));
      return toned.join(`\n${' '.repeat(before)}`);
    });
    return `${shown.join('  ').replace(/[^\S\n]+$/gm, '')}\n`;
  };
  return lines.map(render).join('');
}
