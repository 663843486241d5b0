// When the kernel has a change: told by the change counter of nf_tables, or by the size of the x_tables tables, read
// again and again. A program's own log line comes later: it waits for its child to end.

import type { IptablesVariant } from '../../src/kernel/iptables.ts';
import { runChecked } from '../../src/kernel/process.ts';
import { openRulesStamp, type RulesStamp } from '../../src/kernel/rules-stamp.ts';
import { ipv4 } from '../../src/model/address.ts';

const POLL_MS = 1;

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class KernelRules {
  private readonly variant: IptablesVariant;
  private readonly stamp: RulesStamp;

  constructor(variant: IptablesVariant) {
    this.variant = variant;
    this.stamp = openRulesStamp(ipv4, variant);
  }

  /** Table nat as iptables-save prints it. */
  nat(): Promise<string> {
    return runChecked(`iptables-${this.variant}-save`, ['-t', 'nat']);
  }

  /**
   * Does `act`, then waits until table nat is as `done` wants it.
   * @param check called all the while; throws when waiting is of no use
   * @returns milliseconds from `act` to the change of the rules that led there; the reading of the table is not in it
   * @throws Error when that takes longer than `timeoutMs`
   */
  async timed(
    act: () => void,
    done: (nat: string) => boolean,
    check: () => void = () => {},
    timeoutMs = 120_000,
  ): Promise<number> {
    let known = await this.stamp.read();
    const start = performance.now();
    act();
    while (performance.now() - start < timeoutMs) {
      const now = await this.stamp.read();
      check();
      if (now === known) {
        await pause(POLL_MS);
        continue;
      }
      known = now;
      const ms = performance.now() - start;
      if (done(await this.nat())) return ms;
    }
    throw new Error(`the rules did not come within ${timeoutMs} ms`);
  }

  /** True when nobody changed rules while `act` was under way. */
  async untouched(act: () => Promise<void>): Promise<boolean> {
    const before = await this.stamp.read();
    await act();
    return (await this.stamp.read()) === before;
  }

  close(): void {
    this.stamp.close();
  }
}
