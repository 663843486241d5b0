import type { Iptables } from '../../kernel/iptables.ts';
import { listOrAsk } from '../../kernel/iptables-reading.ts';
import { RulesChanges } from '../../kernel/rules-changes.ts';
import { openRulesStamp } from '../../kernel/rules-stamp.ts';
import type { Family } from '../../model/address.ts';
import { Contest, contestedChecks } from '../../model/contest.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import type { Check } from '../../model/health.ts';
import { monotonicMs } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import { KeyedLock } from '../keyed-lock.ts';
import {
  concernedChains,
  entryChains,
  hostPortRules,
  looksWhole,
  podChains,
  repairDocument,
  replaceDocument,
  requiredAround,
  requiredRules,
} from '../plan/hostports.ts';
import type { PodRecord } from '../plan/pod.ts';
import { PrintedRules } from './conditions.ts';
import type { HostPortHooks, HostPortKeeper } from './hostport-keeper.ts';

/** Rules are read in full this often without a reason: a change that leaves a table's size alone moves no stamp. */
const FULL_LOOK_MS = 600_000;

/** The host ports of one family in iptables. */
export class IptablesHostPorts implements HostPortKeeper {
  readonly family: Family;
  readonly iptables: Iptables;
  private readonly log: Log;
  private readonly hooks: HostPortHooks;
  /** The rules that stand, as far as we know; undefined when that must be looked up. */
  private installed: readonly string[] | undefined;
  private doubted = false;
  private lastFullLook = Number.NEGATIVE_INFINITY;
  private changes: RulesChanges | undefined;
  private readonly contest = new Contest();
  /** Why table nat cannot be read whole; undefined when it can. */
  private unreadable: string | undefined;
  private readonly printed: PrintedRules;
  private readonly lock = new KeyedLock();
  /** Rules that iptables does not take any more, with why. */
  private refused: ReadonlyMap<string, string> = new Map();

  constructor(iptables: Iptables, log: Log, hooks: HostPortHooks) {
    this.family = iptables.family;
    this.iptables = iptables;
    this.log = log;
    this.hooks = hooks;
    this.printed = new PrintedRules(iptables);
  }

  /** @throws TwillError `invalid` when iptables refuses the conditions in one of the rules, with its message */
  async assertTaken(rules: readonly string[]): Promise<void> {
    await this.printed.of(rules);
  }

  /** Rules as iptables prints them; one that it refuses by now does not keep the others. */
  private async accepted(wanted: readonly string[]): Promise<string[]> {
    const refused = new Map<string, string>();
    const rules = await this.printed.ofAccepted(wanted, (rule, error) => {
      refused.set(rule, describeError(error));
      if (!this.refused.has(rule))
        this.log.error(
          { rule, error: describeError(error) },
          'a host port is closed: its conditions are refused',
        );
    });
    this.refused = refused;
    return rules;
  }

  ensure(records: readonly PodRecord[]): Promise<void> {
    return this.lock.run('rules', () => this.ensureAlone(hostPortRules(records, this.family)));
  }

  private async ensureAlone(wanted: readonly string[]): Promise<void> {
    this.printed.keepOnly(wanted);
    const rules = await this.accepted(wanted);
    const { iptables, installed, doubted } = this;
    const known = !doubted && monotonicMs() - this.lastFullLook < FULL_LOOK_MS ? installed : undefined;
    if (known !== undefined && known.join('\n') === rules.join('\n')) return;
    this.doubted = false;
    this.installed = undefined;
    const sameAround =
      known !== undefined && requiredAround(rules).every((rule) => requiredAround(known).includes(rule));
    if (known !== undefined && known.length > 0 && rules.length > 0 && sameAround) {
      await iptables.restore(replaceDocument(rules, known));
    } else {
      const wrote = await this.printed.alone(() => this.repair(rules));
      if (wrote && installed?.join('\n') === rules.join('\n')) this.hooks.repaired();
    }
    this.installed = rules;
    if (rules.length > 0) this.watch();
  }

  /** @returns whether something was not as it should be */
  private async repair(rules: readonly string[]): Promise<boolean> {
    const document = repairDocument(await this.read(rules), rules);
    this.lastFullLook = monotonicMs();
    if (document === undefined) return false;
    this.log.info({ family: this.family.name, rules: rules.length }, 'host port rules repaired');
    await this.iptables.restore(document);
    return true;
  }

  /** @throws TwillError `kernel` when the rules that stand are not those that were made, or have to be */
  async check(records: readonly PodRecord[]): Promise<void> {
    const stand = await this.lock.run('rules', async () => {
      // What an ADD that is under way wants is not there yet.
      const rules = this.installed ?? (await this.accepted(hostPortRules(records, this.family)));
      return await this.printed.alone(
        async () => repairDocument(await this.read(rules), rules) === undefined,
      );
    });
    if (!stand)
      throw new TwillError('kernel', `${this.family.iptables} rules of host ports are missing or changed`);
  }

  /** Table nat as iptables-save prints it; of one that cannot be printed, what is asked for rule by rule. */
  private async read(rules: readonly string[]): Promise<string> {
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
    const names = [...concernedChains, ...podChains(rules)];
    const chains = await Promise.all(names.map((chain) => this.readChain(chain)));
    const text = chains.map((lines, index) =>
      lines === undefined ? '' : [`:${names[index]} - [0:0]`, ...lines, ''].join('\n'),
    );
    return text.join('');
  }

  private readChain(chain: string): Promise<string[] | undefined> {
    return listOrAsk(this.iptables, 'nat', chain, requiredRules);
  }

  /** What somebody should look at. */
  warnings(): Check[] {
    const { unreadable } = this;
    const details = [...(unreadable === undefined ? [] : [unreadable]), ...this.refused.values()];
    const own = details.map((detail): Check => ({ name: 'host ports', state: 'warning', detail }));
    return [...own, ...contestedChecks(this.contest, monotonicMs())];
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
    const names = [...entryChains, ...podChains(installed)];
    const chains = await Promise.all(names.map((chain) => this.readChain(chain)));
    if (this.installed !== installed) return false;
    const lines = chains.flatMap((chain) => chain ?? []);
    if (looksWhole(lines, installed)) return true;
    this.doubted = true;
    if (this.contest.note(object, monotonicMs()).begins)
      this.log.error(
        { family: this.family.name },
        'somebody changes the host port rules again and again: repairs wait from now on',
      );
    this.hooks.broken();
    return true;
  }

  doubt(): void {
    this.doubted = true;
  }

  close(): void {
    this.changes?.close();
  }
}
