import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { Iptables } from '../../kernel/iptables.ts';
import { isEmpty, renderDocument, renderTable, type TableChange } from './plan/document.ts';
import type { Table } from './plan/names.ts';

/** What was written so far. */
export interface Tally {
  /** Rules, by table. */
  readonly rules: Record<Table, number>;
  bytes: number;
  transactions: number;
  chainsWritten: number;
  chainsRemoved: number;
}

export function newTally(): Tally {
  return { rules: { nat: 0, filter: 0 }, bytes: 0, transactions: 0, chainsWritten: 0, chainsRemoved: 0 };
}

/** Adds changes that were written, each in a transaction. */
export function count(tally: Tally, changes: readonly TableChange[], bytes: number): void {
  tally.bytes += bytes;
  for (const change of changes) {
    if (!isEmpty(change)) tally.transactions++;
    tally.rules[change.table] += change.rules;
    tally.chainsWritten += change.write.length;
    tally.chainsRemoved += change.remove.length;
  }
}

/**
 * A document that iptables-legacy-restore reads while it is made: chains of table nat that nothing leads to yet, batch by
 * batch, then all the rest. Making rules and reading them each take a processor for about as long. The rules come to stand
 * at the end, in one transaction a table as ever. (With nf_tables the same, a portion written while the next is made, took
 * a sixth more processor time in all and was no sooner done.)
 */
export class WriteAhead {
  private readonly iptables: Iptables;
  private readonly tally: Tally;
  private readonly document = new PassThrough();
  private writing: Promise<void> | undefined;
  private chains = 0;

  constructor(iptables: Iptables, tally: Tally) {
    this.iptables = iptables;
    this.tally = tally;
  }

  /** Takes chains of table nat; returns when it can take more. Does not fail: {@link finish} says what went wrong. */
  async put(change: TableChange): Promise<void> {
    if (change.write.length === 0) return;
    if (this.writing === undefined) {
      this.writing = this.iptables.restore(this.document);
      this.writing.catch(() => this.document.destroy());
      this.write(`*${change.table}\n`);
    }
    this.chains += change.write.length;
    this.tally.rules[change.table] += change.rules;
    if (!this.write(renderTable(change)))
      await Promise.race([once(this.document, 'drain'), this.writing]).catch(() => {});
  }

  /**
   * @param rest what is to be written besides
   * @returns what is still to be written then: all of it when no chain was taken, else nothing
   * @throws TwillError as {@link Iptables.restore}
   */
  async finish(rest: readonly TableChange[]): Promise<readonly TableChange[]> {
    if (this.writing === undefined) return rest;
    const nat = rest.filter(({ table }) => table === 'nat');
    const others = rest.filter(({ table }) => table !== 'nat');
    this.write(`${nat.map(renderTable).join('')}COMMIT\n${renderDocument(others)}`);
    this.document.end();
    await this.writing;
    count(this.tally, rest, 0);
    // Counted already when there was more for table nat.
    if (nat.every(isEmpty)) this.tally.transactions++;
    this.tally.chainsWritten += this.chains;
    return [];
  }

  /** Ends without writing, where {@link finish} was not reached. */
  async abandon(): Promise<void> {
    this.document.destroy();
    await this.writing?.catch(() => {});
  }

  /** @returns false when more should wait */
  private write(text: string): boolean {
    if (this.document.destroyed) return true;
    this.tally.bytes += text.length;
    return this.document.write(text);
  }
}
