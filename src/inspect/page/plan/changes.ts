import type { RowsEvent } from './view.ts';

type Row = readonly [name: string, ...cells: unknown[]];

/** Rows by their names, and how many there is no room for. */
export interface Listing<R extends Row> {
  readonly rows: ReadonlyMap<string, R>;
  readonly more: number;
}

/** Characters of a list as it is sent: an agent keeps as much for each page that reads slowly. */
export const MOST_TEXT = 1_500_000;

/** The first ones, as many as there is room for. @param most rows at most, however short they are */
export function listing<T, R extends Row>(
  items: readonly T[],
  most: number,
  rowOf: (item: T) => R,
): Listing<R> {
  const rows = new Map<string, R>();
  let length = 0;
  let taken = 0;
  for (const item of items) {
    const row = rowOf(item);
    length += JSON.stringify(row).length + 1;
    if (rows.size >= most || length > MOST_TEXT) break;
    taken++;
    // Of two with one name (leases with one subnet, say) the troubled one comes first.
    if (!rows.has(row[0])) rows.set(row[0], row);
  }
  return { rows, more: items.length - taken };
}

function isSame(a: unknown, b: unknown): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((cell, index) => isSame(cell, b[index]));
}

/** What the page has to be told of a list. @param before undefined to say it all */
export function rowsEvent<R extends Row>(now: Listing<R>, before: Listing<R> | undefined): RowsEvent<R> {
  const { more } = now;
  const all = [...now.rows.values()];
  if (before === undefined) return { whole: true, rows: all, gone: [], more };
  const rows = all.filter((row) => !isSame(row, before.rows.get(row[0])));
  const gone = [...before.rows.keys()].filter((name) => !now.rows.has(name));
  return { whole: false, rows, gone, more };
}
