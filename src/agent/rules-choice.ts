import { forwardWall } from '../kernel/forward-wall.ts';
import type { Iptables } from '../kernel/iptables.ts';
import { kernelFamilies } from '../kernel/ipv6.ts';
import { usedIptables } from '../kernel/used-iptables.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { Family } from '../model/address.ts';
import type { Check } from '../model/health.ts';
import type { RulesTool } from '../model/rules-tool.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { Log } from '../process/log.ts';
import {
  chooseMode,
  type FamilyFacts,
  type Lack,
  lackChecks,
  type ModeChoice,
} from '../services/plan/mode.ts';
import { nftablesLacks } from './nft-probe.ts';
import type { RulesWish } from './rules-wish.ts';

export interface RulesChoiceOptions {
  readonly wanted: RulesWish;
  readonly network: () => NetworkConfig | undefined;
  readonly records: () => readonly PodRecord[];
  readonly log: Log;
  /** Rules are to be made with something else from now on. */
  readonly onChange: () => void;
}

const hasConditions = ({ hostPortOptions, portMappings }: PodRecord): boolean =>
  portMappings.length > 0 &&
  [hostPortOptions?.conditionsV4, hostPortOptions?.conditionsV6].some((words) => (words?.length ?? 0) > 0);

/** Knows what the node's rules are made with, and why. */
export class RulesChoice {
  private readonly options: RulesChoiceOptions;
  private chosen: ModeChoice | undefined;
  /** Found out once: neither the kernel nor nft changes under a running agent. */
  private readonly lacks = new Map<Family, readonly string[]>();
  private readonly iptables = new Map<Family, Iptables>();
  private conditions = false;

  constructor(options: RulesChoiceOptions) {
    this.options = options;
  }

  /** As it is now; undefined while there is no network configuration. */
  get current(): ModeChoice | undefined {
    return this.chosen;
  }

  /** What nftables lacks on this node. */
  warnings(): Check[] {
    return this.chosen === undefined ? [] : lackChecks(this.chosen);
  }

  get wanted(): RulesWish {
    return this.options.wanted;
  }

  /** Whether pods may have conditions: where the agent chooses, they are what it chooses by. */
  takesConditions(): boolean {
    return this.options.wanted === 'auto' ? !this.networkSays() : this.chosen?.mode !== 'nftables';
  }

  /** @param again look at the node again; otherwise only what is known at once is looked at */
  async tool(again: boolean): Promise<RulesTool | undefined> {
    const { wanted, network, records } = this.options;
    if (network() === undefined) return undefined;
    const conditions = records().some(hasConditions);
    const known = !again && this.chosen !== undefined && conditions === this.conditions;
    if (wanted === 'auto' && known && !this.networkSays()) return this.chosen!.mode;
    this.conditions = conditions;
    this.take(await this.look(conditions));
    return this.chosen!.mode;
  }

  private networkSays(): boolean {
    return this.options.network()?.nftables === true;
  }

  private async look(conditions: boolean): Promise<ModeChoice> {
    const { wanted } = this.options;
    if (wanted === 'iptables') return { mode: wanted, reason: '--rules says so' };
    if (wanted === 'nftables') return await this.decreed('--rules says so');
    const field = 'EnableNFTables of the network configuration';
    if (this.networkSays()) return await this.decreed(`${field} says so`);
    if (wanted === 'network') return { mode: 'iptables', reason: `${field} is not on` };
    if (conditions) return chooseMode("a pod's host ports have conditions, which are words of iptables", []);
    const facts: FamilyFacts[] = [];
    for (const family of kernelFamilies()) facts.push(await this.facts(family));
    return chooseMode(undefined, facts);
  }

  /** It is tried all the same; what is missing is named. */
  private async decreed(reason: string): Promise<ModeChoice> {
    const lacks: Lack[] = [];
    for (const family of kernelFamilies())
      for (const what of await this.lacksOf(family)) lacks.push({ family: family.name, what });
    return { mode: 'nftables', reason, lacks };
  }

  private async lacksOf(family: Family): Promise<readonly string[]> {
    const lacks = this.lacks.get(family) ?? (await nftablesLacks(family));
    this.lacks.set(family, lacks);
    return lacks;
  }

  private async facts(family: Family): Promise<FamilyFacts> {
    const iptables = this.iptables.get(family) ?? (await usedIptables(family));
    if (iptables !== undefined) this.iptables.set(family, iptables);
    const lacks = await this.lacksOf(family);
    const wall = iptables === undefined || lacks.length > 0 ? undefined : await forwardWall(iptables);
    const obstacles = wall === undefined ? [] : [wall];
    return { family: family.name, lacks, hasIptables: iptables !== undefined, obstacles };
  }

  private take(choice: ModeChoice): void {
    const before = this.chosen;
    this.chosen = choice;
    if (before?.mode === choice.mode) return;
    const { mode: tool, reason, lacks } = choice;
    this.options.log.info({ tool, reason, lacks }, 'what rules are made with');
    this.options.onChange();
  }
}
