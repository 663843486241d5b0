import { oneLine } from '../model/text.ts';

/** Characters of a cell. */
const LONGEST_CELL = 200;

/** A table for people: columns padded to their widest cell, two spaces apart, no trailing space. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows.map((row) => row.map((cell) => oneLine(cell, LONGEST_CELL)))];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}
