import type { Iptables } from '../../src/kernel/iptables.ts';
import { ipv4 } from '../../src/model/address.ts';
import { TwillError } from '../../src/model/error.ts';
import { SimulatedIptables } from './simulated-iptables.ts';

/** Simulated rules behind the real interface; `refuse` says which line the kernel does not take. */
export class RefusingIptables implements Iptables {
  readonly family = ipv4;
  readonly variant = 'nft';
  readonly rules = new SimulatedIptables();
  refuse: (line: string) => string | undefined = () => undefined;
  busy = false;

  save(table: string): Promise<string> {
    return Promise.resolve(`*${table}\n${this.rules.save(table)}\nCOMMIT\n`);
  }

  list(table: string, chain: string): Promise<string[] | undefined> {
    return Promise.resolve(this.rules.tables[table]!.get(chain)?.map((rule) => `-A ${chain} ${rule}`));
  }

  restore(document: string): Promise<void> {
    if (this.busy) return Promise.reject(new TwillError('timeout', 'the lock was not got'));
    const lines = document.split('\n');
    const at = lines.findIndex((line) => this.refuse(line) !== undefined);
    if (at !== -1)
      return Promise.reject(
        new TwillError('invalid', `refused: line ${at + 1} failed: ${this.refuse(lines[at]!)}`),
      );
    this.rules.restore(document);
    return Promise.resolve();
  }
}
