import { createHash } from 'node:crypto';
import { applyNft, listNftTable, removeNftTable } from '../../kernel/nft.ts';
import { NftNotices } from '../../kernel/nft-notices.ts';
import { type NftTable, openNftTable } from '../../kernel/nft-table.ts';
import { openRulesStamp, type RulesStamp } from '../../kernel/rules-stamp.ts';
import type { Family } from '../../model/address.ts';
import { Contest, contestedChecks } from '../../model/contest.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import type { Check } from '../../model/health.ts';
import { monotonicMs } from '../../process/clock.ts';
import type { Log } from '../../process/log.ts';
import { KeyedLock } from '../keyed-lock.ts';
import { type HostPortRule, hostPortsOf } from '../plan/hostport-rules.ts';
import {
  freshHostPortDocument,
  hostPortChains,
  hostPortDocument,
  hostPortTable,
  standsAsWanted,
} from '../plan/nft-hostports.ts';
import type { PodRecord } from '../plan/pod.ts';
import type { HostPortHooks, HostPortKeeper } from './hostport-keeper.ts';

/** Without a notice the table is looked at this often: one may have come with others that nobody listens to. */
const FULL_LOOK_MS = 600_000;

/** The host ports of one family in a table of nftables. */
export class NftHostPorts implements HostPortKeeper {
  private readonly family: Family;
  private readonly log: Log;
  private readonly hooks: HostPortHooks;
  private readonly table: NftTable;
  private readonly stamp: RulesStamp;
  private readonly notices: NftNotices;
  private readonly lock = new KeyedLock();
  private readonly contest = new Contest();
  /** What was written; '' where the table is gone, undefined where nothing is known. */
  private installed: { readonly document: string; readonly rules: readonly HostPortRule[] } | undefined;
  /** What the kernel says of it. */
  private standing: string | undefined;
  /** Somebody may have put chains of his own into the table. */
  private doubtful = true;
  private lastLook = 0;
  /** Host ports that are closed, with why, by the container. */
  private closed: ReadonlyMap<string, string> = new Map();

  constructor(family: Family, log: Log, hooks: HostPortHooks) {
    this.family = family;
    this.log = log;
    this.hooks = hooks;
    this.table = openNftTable(family, hostPortTable);
    this.stamp = openRulesStamp(family, 'nft');
    this.notices = new NftNotices(family, hostPortTable, () => void this.look());
  }

  ensure(records: readonly PodRecord[]): Promise<void> {
    return this.lock.run('rules', () => this.write(this.open(records)));
  }

  /** Those that can be written: a pod that was made while rules were iptables' may have conditions. */
  private open(records: readonly PodRecord[]): HostPortRule[] {
    const all = hostPortsOf(records, this.family);
    const closed = new Map<string, string>();
    for (const { containerId, protocol, hostPort, conditions } of all) {
      if (conditions.length === 0) continue;
      const why = `${protocol} host port ${hostPort} is closed: its conditions are words of iptables, and rules are in nftables`;
      closed.set(containerId, why);
      if (!this.closed.has(containerId)) this.log.error({ containerId, hostPort }, why);
    }
    this.closed = closed;
    return all.filter(({ conditions }) => conditions.length === 0);
  }

  private async write(rules: readonly HostPortRule[]): Promise<void> {
    const document = rules.length === 0 ? '' : hostPortDocument(this.family, rules);
    const fresh = monotonicMs() - this.lastLook < FULL_LOOK_MS;
    if (fresh && this.installed?.document === document) return;
    this.installed = undefined;
    if (document === '') await removeNftTable(this.family, hostPortTable);
    else await this.apply(document, rules);
    this.installed = { document, rules };
    this.lastLook = monotonicMs();
  }

  private async apply(document: string, rules: readonly HostPortRule[]): Promise<void> {
    const before = await this.stamp.read();
    let transactions = 1;
    try {
      await applyNft((await this.hasOthers()) ? freshHostPortDocument(this.family, rules) : document);
      this.doubtful = false;
    } catch (error) {
      if (!isTwillError(error, 'invalid')) throw error;
      this.log.warn({ family: this.family.name }, 'the table of host ports is made anew');
      transactions = 2;
      await applyNft(freshHostPortDocument(this.family, rules));
    }
    const standing = await this.digest();
    const alone = this.stamp.explains(before, await this.stamp.read(), { transactions, entries: 0 });
    // What others changed at once must not pass for ours.
    this.standing = alone || (await this.standsAs(rules)) ? standing : undefined;
    if (this.standing === undefined) this.notices.again();
  }

  /** Whether there are chains that are not ours. */
  private async hasOthers(): Promise<boolean> {
    return this.doubtful && (await this.table.chains()).some(({ name }) => !hostPortChains.has(name));
  }

  /** What the kernel says of the table and all its chains. */
  private async digest(): Promise<string> {
    const hash = createHash('sha256').update(await this.table.state());
    for (const { name, hook, rules } of await this.table.chains()) {
      hash.update(`${name} ${hook}\n`);
      for (const rule of rules) hash.update(rule);
    }
    return hash.digest('hex');
  }

  private async standsAs(rules: readonly HostPortRule[]): Promise<boolean> {
    return standsAsWanted(this.family, await listNftTable(this.family, hostPortTable), rules);
  }

  /** @throws TwillError `kernel` when what stands is not what was made, or has to be */
  async check(records: readonly PodRecord[]): Promise<void> {
    const stand = await this.lock.run('rules', () =>
      // What an ADD that is under way wants is not there yet.
      this.standsAs(this.installed?.rules ?? this.open(records)),
    );
    if (!stand) {
      const where = `${this.family.nft} ${hostPortTable}`;
      throw new TwillError('kernel', `rules of host ports in table ${where} are missing or changed`);
    }
  }

  private look(): Promise<void> {
    return this.lock
      .run('rules', async () => {
        const { installed } = this;
        if (installed === undefined || installed.document === '') return;
        if (this.standing !== undefined && (await this.digest()) === this.standing) return;
        const object = `host port rules (${this.family.name})`;
        const wait = this.contest.wait(object, monotonicMs());
        if (wait > 0) {
          this.notices.again(wait);
          return;
        }
        this.doubt();
        if (this.contest.note(object, monotonicMs()).begins)
          this.log.error(
            { family: this.family.name },
            'somebody changes the host port rules again and again: repairs wait from now on',
          );
        else this.log.warn({ family: this.family.name }, 'host port rules were changed by somebody else');
        this.hooks.repaired();
        this.hooks.broken();
      })
      .catch(() => this.notices.again(1000));
  }

  doubt(): void {
    this.installed = undefined;
    this.doubtful = true;
  }

  warnings(): Check[] {
    const own = [...this.closed.values()].map(
      (detail): Check => ({ name: 'host ports', state: 'warning', detail }),
    );
    return [...own, ...contestedChecks(this.contest, monotonicMs())];
  }

  close(): void {
    this.notices.close();
    this.stamp.close();
    this.table.close();
  }
}
