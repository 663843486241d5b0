import { detectVariant, type Iptables, openIptables } from '../../kernel/iptables.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { RulesChanges } from '../../kernel/rules-changes.ts';
import { openRulesStamp } from '../../kernel/rules-stamp.ts';
import type { Family } from '../../model/address.ts';
import { Contest, contestedChecks } from '../../model/contest.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import type { Check } from '../../model/health.ts';
import { monotonicMs } from '../../process/clock.ts';
import { coalesce } from '../../process/coalesce.ts';
import type { Log } from '../../process/log.ts';
import {
  concernedChains,
  entryChains,
  hostPortRules,
  looksWhole,
  repairDocument,
  replaceDocument,
  requiredAround,
  requiredRules,
} from '../plan/hostports.ts';
import type { PodRecord } from '../plan/pod.ts';
import type { Localnet } from './localnet.ts';

/** Rules are read in full this often without a reason: a change that leaves a table's size alone moves no stamp. */
const FULL_LOOK_MS = 600_000;

/** The rules of one family. */
class FamilyHostPorts {
  readonly family: Family;
  readonly iptables: Iptables;
  private readonly log: Log;
  private readonly broken: () => void;
  /** The rules that stand, as far as we know; undefined when that must be looked up. */
  private installed: readonly string[] | undefined;
  private doubted = false;
  private lastFullLook = Number.NEGATIVE_INFINITY;
  private changes: RulesChanges | undefined;
  private readonly contest = new Contest();
  /** Why table nat cannot be read whole; undefined when it can. */
  private unreadable: string | undefined;

  /** @param broken called when others have changed the rules */
  constructor(iptables: Iptables, log: Log, broken: () => void) {
    this.family = iptables.family;
    this.iptables = iptables;
    this.log = log;
    this.broken = broken;
  }

  async ensure(rules: readonly string[]): Promise<void> {
    const { iptables, installed, doubted } = this;
    const known = !doubted && monotonicMs() - this.lastFullLook < FULL_LOOK_MS ? installed : undefined;
    if (known !== undefined && known.join('\n') === rules.join('\n')) return;
    this.doubted = false;
    this.installed = undefined;
    const sameAround =
      known !== undefined && requiredAround(rules).every((rule) => requiredAround(known).includes(rule));
    if (known !== undefined && known.length > 0 && rules.length > 0 && sameAround) {
      await iptables.restore(replaceDocument(rules));
    } else {
      const document = repairDocument(await this.read(), rules);
      this.lastFullLook = monotonicMs();
      if (document !== undefined) {
        this.log.info({ family: this.family.name, rules: rules.length }, 'host port rules repaired');
        await iptables.restore(document);
      }
    }
    this.installed = rules;
    if (rules.length > 0) this.watch();
  }

  /** Table nat as iptables-save prints it; of one that cannot be printed, what is asked for rule by rule. */
  async read(): Promise<string> {
    try {
      const text = await this.iptables.save('nat');
      this.unreadable = undefined;
      return text;
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
      if (this.unreadable === undefined)
        this.log.warn({ error: describeError(error) }, 'host port rules are checked one by one');
      this.unreadable = describeError(error);
    }
    const chains = await Promise.all(concernedChains.map((chain) => this.readChain(chain)));
    const text = chains.map((lines, index) =>
      lines === undefined ? '' : [`:${concernedChains[index]} - [0:0]`, ...lines, ''].join('\n'),
    );
    return text.join('');
  }

  private async readChain(chain: string): Promise<string[] | undefined> {
    try {
      return await this.iptables.list('nat', chain);
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
    }
    const asked = requiredRules.filter((rule) => rule.startsWith(`-A ${chain} `));
    const found = await Promise.all(asked.map((rule) => this.iptables.has('nat', rule)));
    return asked.filter((_, index) => found[index]);
  }

  /** What somebody should look at. */
  warnings(): Check[] {
    const { unreadable } = this;
    const contested = contestedChecks(this.contest, monotonicMs());
    return unreadable === undefined
      ? contested
      : [{ name: 'host ports', state: 'warning', detail: unreadable }, ...contested];
  }

  private watch(): void {
    this.changes ??= new RulesChanges(
      openRulesStamp(this.family, this.iptables.variant),
      () => this.look(),
      this.log,
    );
  }

  /**
   * Somebody has changed rules, perhaps ours. Reads short chains only, however many rules there are.
   * @returns false when our own writing was under way
   */
  private async look(): Promise<boolean> {
    const { installed } = this;
    if (installed === undefined) return false;
    if (installed.length === 0) return true;
    const object = `host port rules (${this.family.name})`;
    if (this.contest.wait(object, monotonicMs()) > 0) return false;
    const chains = await Promise.all(entryChains.map((chain) => this.readChain(chain)));
    if (this.installed !== installed) return false;
    const lines = chains.flatMap((chain) => chain ?? []);
    if (looksWhole(lines, installed)) return true;
    this.doubted = true;
    if (this.contest.note(object, monotonicMs()).begins)
      this.log.error(
        { family: this.family.name },
        'somebody changes the host port rules again and again: repairs wait from now on',
      );
    this.broken();
    return true;
  }

  close(): void {
    this.changes?.close();
  }
}

/** Keeps the host ports of the pods that stand in iptables: one chain of ours within the portmap plugin's. */
export class HostPorts {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  private readonly records: () => readonly PodRecord[];
  private readonly log: Log;
  private readonly localnet: Localnet;
  private readonly states = new Map<Family, FamilyHostPorts>();
  private looked = false;

  constructor(records: () => readonly PodRecord[], localnet: Localnet, log: Log) {
    this.records = records;
    this.localnet = localnet;
    this.log = log;
    this.sync = coalesce(() => this.syncAll());
  }

  /** @throws TwillError `kernel` when the rules that stand are not as they should be */
  async check(): Promise<void> {
    for (const [family, state] of this.states) {
      const rules = hostPortRules(this.records(), family);
      if (repairDocument(await state.read(), rules) !== undefined)
        throw new TwillError('kernel', `${family.iptables} rules of host ports are missing or changed`);
    }
  }

  private async syncAll(): Promise<void> {
    const records = this.records().filter(({ portMappings }) => portMappings.length > 0);
    // Without host ports nothing is looked at, except once: an earlier agent may have left rules.
    if (records.length === 0 && this.states.size === 0 && this.looked) return;
    for (const family of kernelFamilies()) await this.syncFamily(family, hostPortRules(records, family));
    this.looked = true;
    // 127.0.0.1:PORT on the node; there is nothing like it in IPv6.
    const ofIpv4 = records.filter(({ addresses }) => addresses.some(({ address }) => address.includes('.')));
    await this.localnet.ensure(new Set(ofIpv4.map(({ bridge }) => bridge)));
  }

  /** What somebody should look at. */
  warnings(): Check[] {
    return [...this.states.values()].flatMap((state) => state.warnings());
  }

  private async syncFamily(family: Family, rules: readonly string[]): Promise<void> {
    if (rules.length === 0 && !this.states.has(family) && this.looked) return;
    await (await this.stateOf(family)).ensure(rules);
  }

  private async stateOf(family: Family): Promise<FamilyHostPorts> {
    const known = this.states.get(family);
    if (known !== undefined) return known;
    const { variant } = await detectVariant(family);
    const repair = (): void => {
      this.sync().catch((error: unknown) =>
        this.log.warn({ error: describeError(error) }, 'host port rules not repaired, will retry'),
      );
    };
    const state = new FamilyHostPorts(openIptables(family, variant), this.log, repair);
    this.states.set(family, state);
    return state;
  }

  close(): void {
    for (const state of this.states.values()) state.close();
  }
}
