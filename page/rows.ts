import type { RowsEvent } from '../src/inspect/page/plan/view.ts';

type Row = readonly [name: string, ...cells: unknown[]];

/** A list of which the page is told all rows once, then those that have changed. */
export class Rows<R extends Row> {
  private readonly rows = new Map<string, R>();
  isKnown = false;
  /** Rows that were not told. */
  more = 0;

  /** @returns whether it is known now; false for changes of what is not known yet */
  take({ whole, rows, gone, more }: RowsEvent<R>): boolean {
    if (!whole && !this.isKnown) return false;
    if (whole) this.rows.clear();
    for (const row of rows) this.rows.set(row[0], row);
    for (const name of gone) this.rows.delete(name);
    this.isKnown = true;
    this.more = more;
    return true;
  }

  forget(): void {
    this.rows.clear();
    this.isKnown = false;
  }

  get all(): R[] {
    return [...this.rows.values()];
  }
}
