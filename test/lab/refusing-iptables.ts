import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Iptables, IptablesVariant } from '../../src/kernel/iptables.ts';
import { ipv4 } from '../../src/model/address.ts';
import { TwillError } from '../../src/model/error.ts';
import { SimulatedIptables } from './simulated-iptables.ts';

/** Simulated rules behind the real interface; `refuse` says which line the kernel does not take. */
export class RefusingIptables implements Iptables {
  readonly family = ipv4;
  readonly variant: IptablesVariant;
  readonly rules = new SimulatedIptables();
  refuse: (line: string) => string | undefined = () => undefined;
  busy = false;
  /** Documents that were taken. */
  restores = 0;
  private writers = 0;

  constructor(variant: IptablesVariant = 'nft') {
    this.variant = variant;
  }

  save(table: string): Promise<string> {
    return Promise.resolve(`*${table}\n${this.rules.save(table)}\nCOMMIT\n`);
  }

  list(table: string, chain: string): Promise<string[] | undefined> {
    return Promise.resolve(this.rules.tables[table]!.get(chain)?.map((rule) => `-A ${chain} ${rule}`));
  }

  async has(table: string, rule: string): Promise<boolean> {
    return (await this.list(table, rule.split(' ')[1]!))?.includes(rule) === true;
  }

  understands(): Promise<boolean> {
    return Promise.resolve(true);
  }

  chains(table: string): Promise<string[]> {
    return Promise.resolve([...this.rules.tables[table]!.keys()]);
  }

  async restore(document: string | Readable): Promise<void> {
    if (this.writers > 0) throw new Error('two write at a time');
    this.writers++;
    try {
      this.take(typeof document === 'string' ? document : await text(document));
    } finally {
      this.writers--;
    }
  }

  private take(document: string): void {
    if (this.busy) throw new TwillError('timeout', 'the lock was not got');
    const lines = document.split('\n');
    const at = lines.findIndex((line) => this.refuse(line) !== undefined);
    if (at !== -1)
      throw new TwillError('invalid', `refused: line ${at + 1} failed: ${this.refuse(lines[at]!)}`);
    this.rules.restore(document);
    this.restores++;
  }
}
