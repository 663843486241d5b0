import { type Iptables, openIptables } from '../../kernel/iptables.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { listNftTable } from '../../kernel/nft.ts';
import { detectVariant } from '../../kernel/used-iptables.ts';
import { type Family, ipv4 } from '../../model/address.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import type { Check } from '../../model/health.ts';
import type { RulesTool } from '../../model/rules-tool.ts';
import { coalesce } from '../../process/coalesce.ts';
import { type Log, LogLimiter } from '../../process/log.ts';
import { applyRemovals } from '../../process/removals.ts';
import { findHostPortChains, findHostPortTables } from '../host-port-removals.ts';
import { hasConditions, hostPortRules } from '../plan/hostports.ts';
import { hostPortTable } from '../plan/nft-hostports.ts';
import type { PodRecord } from '../plan/pod.ts';
import type { PodRepairs } from '../repairs.ts';
import type { HostPortHooks, HostPortKeeper } from './hostport-keeper.ts';
import { IptablesHostPorts } from './iptables-hostports.ts';
import type { Localnet } from './localnet.ts';
import { NftHostPorts } from './nft-hostports.ts';

export interface HostPortOptions {
  readonly records: () => readonly PodRecord[];
  readonly localnet: Localnet;
  readonly log: Log;
  /** What rules are made with; undefined until that is known: what stands is then changed with what made it. */
  readonly rulesTool: () => Promise<RulesTool | undefined>;
  /** Whether pods with conditions, which are words of iptables, can be served. */
  readonly takesConditions: () => boolean;
  readonly repairs: PodRepairs;
}

const RETRY_MS = 5000;

/** Keeps the host ports of the pods that stand, in iptables or nftables. */
export class HostPorts {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  private readonly options: HostPortOptions;
  private readonly keepers = new Map<Family, HostPortKeeper>();
  private readonly trials = new Map<Family, Promise<IptablesHostPorts>>();
  /** What the keepers make rules with. */
  private tool: RulesTool | undefined;
  private looked = false;
  /** What another tool's rules may be there still, with the reasons. */
  private left: readonly string[] = [];
  private readonly limiter = new LogLimiter();
  /** Why the last repair failed. */
  private failure: string | undefined;
  private retry: NodeJS.Timeout | undefined;
  private closed = false;
  private readonly hooks: HostPortHooks = {
    broken: () => this.repair(),
    repaired: () => {
      this.options.repairs.rules++;
    },
  };

  constructor(options: HostPortOptions) {
    this.options = options;
    this.sync = coalesce(() => this.syncAll());
  }

  /** @throws TwillError `kernel` when the rules that stand are not as they should be */
  async check(): Promise<void> {
    for (const keeper of this.keepers.values()) await keeper.check(this.options.records());
  }

  /**
   * To be called before anything is made of a pod.
   * @throws TwillError `invalid` when its conditions cannot be kept, naming them
   */
  async assertConditions(record: PodRecord): Promise<void> {
    for (const family of kernelFamilies()) {
      const rules = hostPortRules([record], family);
      if (!rules.some(hasConditions)) continue;
      const field = `network configuration: ${family === ipv4 ? 'conditionsV4' : 'conditionsV6'}`;
      if (!this.options.takesConditions())
        throw new TwillError(
          'invalid',
          `${field}: these are matches of iptables, and this node's rules are in nftables: leave them out, or run the agent with --rules=iptables`,
        );
      try {
        await (await this.iptablesOf(family)).assertTaken(rules);
      } catch (error) {
        if (!isTwillError(error, 'invalid')) throw error;
        throw new TwillError('invalid', `${field}: ${describeError(error)}`);
      }
    }
  }

  private async syncAll(): Promise<void> {
    const { localnet, rulesTool } = this.options;
    const all = this.options.records();
    // Their rules may be among ours, and would go.
    if (all.some(({ hostPortsUnread }) => hostPortsUnread === true))
      throw new TwillError('unavailable', 'host ports of pods that stand cannot be read yet');
    const records = all.filter(({ portMappings }) => portMappings.length > 0);
    const known = await rulesTool();
    const tool = known ?? this.tool ?? (await standingTool());
    if (tool === undefined) return;
    // Without host ports nothing is looked at, except once: an earlier agent may have left rules.
    const changes = tool !== this.tool;
    if (records.length === 0 && this.keepers.size === 0 && this.looked && !changes) return;
    if (changes) this.leave();
    this.tool = tool;
    for (const family of kernelFamilies()) await this.syncFamily(family, tool, records);
    // Once the new rules stand: there is no moment without any.
    if (known !== undefined && !this.looked) await this.clearOther(tool);
    this.looked = known !== undefined;
    // 127.0.0.1:PORT on the node; there is nothing like it in IPv6.
    const ofIpv4 = records.filter(({ addresses }) => addresses.some(({ address }) => address.includes('.')));
    await localnet.ensure(new Set(ofIpv4.map(({ bridge }) => bridge)));
  }

  /** The keepers of another tool look after their rules no more. */
  private leave(): void {
    for (const keeper of this.keepers.values()) keeper.close();
    this.keepers.clear();
    this.trials.clear();
    this.looked = false;
  }

  /** The portmap plugin's own chains stay. */
  private async clearOther(tool: RulesTool): Promise<void> {
    const found = tool === 'iptables' ? await findHostPortTables() : await findHostPortChains();
    const { left, failure } = await applyRemovals(found);
    if (failure !== undefined) throw failure;
    this.left = left;
    if (left.length > 0) this.options.log.warn({ left }, 'rules of host ports cannot be removed');
  }

  /** The next {@link sync} reads the rules, whatever is known of them. */
  doubt(): void {
    for (const keeper of this.keepers.values()) keeper.doubt();
  }

  /** What somebody should look at. */
  warnings(): Check[] {
    const standing = [...this.keepers.values()].flatMap((keeper) => keeper.warnings());
    const some = this.options.records().some(({ portMappings }) => portMappings.length > 0);
    const failed =
      this.failure === undefined || !some ? [] : [`host ports are not as they should be: ${this.failure}`];
    const told = [...this.left, ...failed];
    return [...told.map((detail): Check => ({ name: 'host ports', state: 'warning', detail })), ...standing];
  }

  private async syncFamily(family: Family, tool: RulesTool, records: readonly PodRecord[]): Promise<void> {
    const none = hostPortRules(records, family).length === 0;
    if (none && !this.keepers.has(family) && this.looked) return;
    const keeper = this.keepers.get(family) ?? (await this.open(family, tool));
    this.keepers.set(family, keeper);
    await keeper.ensure(records);
  }

  private async open(family: Family, tool: RulesTool): Promise<HostPortKeeper> {
    if (tool === 'iptables') return await this.iptablesOf(family);
    const { log } = this.options;
    return new NftHostPorts(family, log, this.hooks);
  }

  /** As {@link sync}; a failure is said, and tried again in a while. */
  repair(): void {
    clearTimeout(this.retry);
    const done = (): void => {
      this.failure = undefined;
    };
    this.sync().then(done, (error: unknown) => {
      const reason = describeError(error);
      this.failure = reason;
      if (this.limiter.allow(reason) !== undefined)
        this.options.log.warn({ error: reason }, 'host port rules not repaired, will retry');
      if (!this.closed) this.retry = setTimeout(() => this.repair(), RETRY_MS).unref();
    });
  }

  /** One for each family, though several ADDs ask for the first time at once. */
  private iptablesOf(family: Family): Promise<IptablesHostPorts> {
    const opening = this.trials.get(family) ?? this.openIptables(family);
    this.trials.set(family, opening);
    opening.catch(() => this.trials.delete(family));
    return opening;
  }

  private async openIptables(family: Family): Promise<IptablesHostPorts> {
    const iptables = await usedIptables(family);
    return new IptablesHostPorts(iptables, this.options.log, this.hooks);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.retry);
    for (const keeper of this.keepers.values()) keeper.close();
  }
}

async function usedIptables(family: Family): Promise<Iptables> {
  return openIptables(family, (await detectVariant(family)).variant);
}

/** What an earlier agent has made rules with, as far as they stand; undefined where there is neither of the two. */
async function standingTool(): Promise<RulesTool | undefined> {
  try {
    for (const family of kernelFamilies())
      if ((await listNftTable(family, hostPortTable)) !== undefined) return 'nftables';
  } catch (error) {
    if (!isTwillError(error, 'missing-program', 'kernel')) throw error;
  }
  try {
    await detectVariant(ipv4);
    return 'iptables';
  } catch (error) {
    if (!isTwillError(error, 'missing-program')) throw error;
    return undefined;
  }
}
