import type { Iptables } from '../kernel/iptables.ts';
import type { Family } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { chainDocument, jumpRule, type StandingChain } from './plan/iptables.ts';
import { masqueradeChain, type TrafficChain, type TrafficRules, trafficChains } from './plan/rules.ts';

export interface ChainsOptions {
  readonly log: Log;
  /** True while the chain is to be left as it is, because the same repair was made again and again. */
  readonly mustWait: (chain: string, family: Family) => boolean;
  /** To be told of each chain that was written. */
  readonly repaired: (chain: string, family: Family) => void;
  /** To be told of each chain that is as it should be. */
  readonly stands: (chain: string, family: Family) => void;
}

/** Makes the chains of iptables, and the jumps to them, as they should be. */
export class TrafficChains {
  /** What cannot be printed, and why. */
  readonly unreadable = new Map<string, string>();
  private readonly options: ChainsOptions;

  constructor(options: ChainsOptions) {
    this.options = options;
  }

  /**
   * Where one chain is refused, the others are made all the same.
   * @param may false for a table that does not stand
   * @param guarded called when the guards stand
   * @throws the first refusal
   */
  async ensure(
    rules: TrafficRules,
    tool: Iptables,
    may: (table: string) => boolean = () => true,
    guarded: () => void = () => {},
  ): Promise<void> {
    const failures: unknown[] = [];
    for (const chain of trafficChains) {
      if (chain === masqueradeChain && failures.length === 0) guarded();
      if (!may(chain.table)) continue;
      await this.ensureOne(rules, chain, tool).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  private async ensureOne(all: TrafficRules, chain: TrafficChain, tool: Iptables): Promise<void> {
    const { family, randomFully } = all;
    const { mustWait, repaired, stands } = this.options;
    const document = chainDocument(chain, chain.rules(all), randomFully, await this.standing(tool, chain));
    if (document !== undefined) {
      if (mustWait(chain.name, family)) return;
      await tool.restore(document);
      repaired(chain.name, family);
    }
    stands(chain.name, family);
  }

  /** The family's chains are not looked at any more. */
  forget({ name }: Family): void {
    for (const key of this.unreadable.keys()) if (key.startsWith(`${name} `)) this.unreadable.delete(key);
  }

  /** What stands. Of a chain that iptables cannot print it is asked for our jump alone. */
  private async standing(tool: Iptables, chain: TrafficChain): Promise<StandingChain> {
    const { table, name, parent } = chain;
    // A chain of ours that cannot be printed is not as it should be.
    const own = tool.list(table, name).catch((error: unknown) => {
      if (isTwillError(error, 'conflict')) return [];
      throw error;
    });
    const key = `${tool.family.name} ${table} ${parent}`;
    try {
      const [standing, lines = []] = await Promise.all([own, tool.list(table, parent)]);
      this.unreadable.delete(key);
      return { own: standing, parent: lines };
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
      if (!this.unreadable.has(key))
        this.options.log.warn({ error: describeError(error) }, 'rules are checked one by one');
      this.unreadable.set(key, describeError(error));
    }
    const jump = jumpRule(chain);
    const stands = await tool.has(table, jump);
    return { own: await own, parent: stands ? [jump] : [], parentIsWhole: false };
  }
}
