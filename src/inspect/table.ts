import { oneLine, wrapText } from '../model/text.ts';

/** Characters of a cell. */
const LONGEST_CELL = 200;

/** How a cell is meant: colours in a terminal, nothing elsewhere. */
export type Tone = 'good' | 'poor' | 'bad' | 'faint' | 'strong';

export type Cell =
  | string
  | {
      readonly text: string;
      readonly tone?: Tone;
      /** In the last column: a command, on a line of its own, which is not broken. */
      readonly below?: string | undefined;
    };

/** Text as it is shown where there is a tone for it. */
export type Paint = (text: string, tone: Tone) => string;

export const plainPaint: Paint = (text) => text;

const codes: Readonly<Record<Tone, number>> = { good: 32, poor: 33, bad: 31, faint: 2, strong: 1 };

export const colourPaint: Paint = (text, tone) => `\u001b[${codes[tone]}m${text}\u001b[0m`;

export interface TableOptions {
  readonly paint?: Paint;
  /** Columns of the screen: what the last column has to say goes on below it; without it lines are as long as they are. */
  readonly width?: number;
  /** Without the line of names above. */
  readonly headless?: boolean;
}

/** The least that the last column gets, however wide the others are. */
const LEAST_WRAPPED = 20;

interface Shown {
  readonly text: string;
  readonly tone?: Tone | undefined;
  readonly below?: string | undefined;
}

function shownCell(cell: Cell, most: number): Shown {
  if (typeof cell === 'string') return { text: oneLine(cell, most) };
  const { text, tone, below } = cell;
  return { text: oneLine(text, most), tone, below: below === undefined ? undefined : oneLine(below, most) };
}

/** A table for people: columns padded to their widest cell, two spaces apart, no trailing space. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  { paint = plainPaint, width, headless = false }: TableOptions = {},
): string {
  const most = width === undefined ? LONGEST_CELL : 10 * LONGEST_CELL;
  const names = headless ? [] : [header.map((text): Shown => ({ text }))];
  const lines = [...names, ...rows.map((row) => row.map((cell) => shownCell(cell, most)))];
  const last = header.length - 1;
  const widths = header.map((_, column) =>
    lines.reduce((widest, line) => Math.max(widest, (line[column]?.text ?? '').length), 0),
  );
  const before = widths.slice(0, last).reduce((sum, one) => sum + one + 2, 0);
  const room = width === undefined ? Number.POSITIVE_INFINITY : Math.max(LEAST_WRAPPED, width - before);
  const toned = ({ tone }: Shown, text: string): string => (tone === undefined ? text : paint(text, tone));
  const lastCell = (cell: Shown): string => {
    const parts = cell.text.length > room ? wrapText(cell.text, room) : [cell.text];
    const command = cell.below === undefined ? [] : [paint(`$ ${cell.below}`, 'faint')];
    return [...parts.map((part) => toned(cell, part)), ...command].join(`\n${' '.repeat(before)}`);
  };
  const render = (line: readonly Shown[]): string => {
    const cells = line.map((cell, column) =>
      column < last ? toned(cell, cell.text.padEnd(widths[column] ?? 0)) : lastCell(cell),
    );
    return `${cells.join('  ').replace(/[^\S\n](?<![^\S\n]{2})[^\S\n]*$/gm, '')}\n`;
  };
  return lines.map(render).join('');
}
