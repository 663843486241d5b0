// When the kernel has a change: told by the change counter of nf_tables, or by the size of the x_tables tables, read
// again and again. A program's own log line comes later: it waits for its child to end.

import { type NftTable, openNftTable } from '../../src/kernel/nft-table.ts';
import { run, runChecked } from '../../src/kernel/process.ts';
import { openRulesStamp, type RulesStamp } from '../../src/kernel/rules-stamp.ts';
import { ipv4 } from '../../src/model/address.ts';
import { tableName } from '../../src/services/nftables/plan/names.ts';
import type { RulesKind } from '../lab/service-lab.ts';

const POLL_MS = 1;

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class KernelRules {
  private readonly variant: RulesKind;
  private readonly table: NftTable = openNftTable(ipv4, tableName);
  private readonly stamp: RulesStamp;

  constructor(variant: RulesKind) {
    this.variant = variant;
    this.stamp = openRulesStamp(ipv4, variant === 'nftables' ? 'nft' : variant);
  }

  /** To how many endpoints rules lead, those of each Service counted for themselves. */
  async endpoints(): Promise<number> {
    if (this.variant === 'nftables') return (await this.elements()) ?? (await this.peersRules());
    const nat = await runChecked(`iptables-${this.variant}-save`, ['-t', 'nat']);
    // kube-proxy has a chain for each endpoint, and lets those that nothing leads to stand for a while.
    return nat.match(/-j KUBE-SEP-/g)?.length ?? nat.match(/-j DNAT /g)?.length ?? 0;
  }

  /** Ours; undefined where packets do not come to our table. */
  private async elements(): Promise<number | undefined> {
    const chains = await this.table.chains();
    if (!chains.some(({ name }) => name === 'nat-prerouting')) return undefined;
    let count = 0;
    await this.table.elements(
      'endpoints-tcp',
      () => {
        count = 0;
      },
      () => count++,
    );
    return count;
  }

  /** kube-proxy's, in a chain for each endpoint. */
  private async peersRules(): Promise<number> {
    const { stdout } = await run('nft', ['-s', 'list', 'table', 'ip', 'kube-proxy']);
    return stdout.match(/ goto endpoint-/g)?.length ?? 0;
  }

  /**
   * Does `act`, then waits until rules lead to so many endpoints.
   * @param check called all the while; throws when waiting is of no use
   * @returns milliseconds from `act` to the change of the rules that led there; the reading of the table is not in it
   * @throws Error when that takes longer than `timeoutMs`
   */
  async timed(
    act: () => void,
    endpoints: number,
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
      if ((await this.endpoints()) === endpoints) return ms;
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
    this.table.close();
  }
}
