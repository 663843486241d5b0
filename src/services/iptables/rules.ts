import { hash } from 'node:crypto';
import type { Iptables } from '../../kernel/iptables.ts';
import type { Family } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { Turns } from '../../process/turns.ts';
import type { FamilyRules, SyncResult } from '../family-rules.ts';
import { type MissingCounts, MissingLocal } from '../plan/missing-local.ts';
import { type NodeView, type ServicePortEntry, serviceEntries } from '../plan/table.ts';
import type { ServiceState } from '../plan/tracker.ts';
import {
  addedEntries,
  type JumpChanges,
  renderDocument,
  type TableChange,
  tableChange,
} from './plan/document.ts';
import { jumps, type Table, tables } from './plan/names.ts';
import type { RenderOptions } from './plan/options.ts';
import { inPortions } from './plan/portions.ts';
import { type Chains, Ruleset } from './plan/ruleset.ts';
import { renderServicePort } from './plan/service-rules.ts';
import { readStanding, takeOver } from './standing-rules.ts';
import { count, newTally, type Tally, WriteAhead } from './write-ahead.ts';

export function sha256(text: string): Uint8Array {
  return hash('sha256', text, 'buffer');
}

export interface ProxyRulesOptions {
  readonly family: Family;
  readonly iptables: Iptables;
  readonly render: RenderOptions;
  readonly node: NodeView;
  readonly log: Log;
  /** Told the entries of every Service whose rules are made. */
  readonly onEntries?: (service: string, entries: readonly ServicePortEntry[]) => void;
  /** Told what table nat held before anything was written. */
  readonly onStanding?: (chains: Chains) => void;
}

/** What one sync wrote. */
export type IptablesSync = SyncResult & Readonly<Tally>;

const MAX_REFUSALS_PER_SYNC = 50;
/** Above twice as many rules a change is several transactions; with legacy each of them would rewrite the whole table. */
const PORTION_RULES = 5000;
/** With legacy, from so many Services on, rules are read by the child while further ones are made, after each so many. */
const AHEAD_SERVICES = 1000;
const BATCH_SERVICES = 64;

/** Where packets from elsewhere come in. */
const entrance = jumps.find(({ table, chain }) => table === 'nat' && chain === 'PREROUTING')!;

/** The line of the document that iptables-restore did not take; undefined when it did not say. */
function refusedLine(document: string, error: Error): string | undefined {
  const line = /line:? (\d+)/.exec(error.message)?.[1];
  return line === undefined ? undefined : document.split('\n')[Number(line) - 1];
}

/**
 * Makes the kernel's rules of one family equal to the table of Services. What is installed is kept in memory, so a sync
 * writes only the chains that changed; the first one, and any asked to be full, reads the kernel's rules and takes over
 * what stands.
 */
export class ProxyRules implements FamilyRules {
  readonly mode = 'iptables';
  readonly family: Family;
  private readonly options: ProxyRulesOptions;
  private readonly ruleset: Ruleset;
  private installed: Record<Table, Chains> | undefined;
  private readonly refused = new Map<string, string>();
  private readonly missingLocal = new MissingLocal();
  private node: NodeView;
  private render: RenderOptions;
  private cannotRead: readonly string[] = [];
  private hasRead = false;

  constructor(options: ProxyRulesOptions) {
    this.options = options;
    this.family = options.family;
    this.node = options.node;
    this.render = options.render;
    this.ruleset = new Ruleset(options.render);
  }

  /** Services the kernel refused, with its reason: without rules until they change. */
  get refusals(): ReadonlyMap<string, string> {
    return this.refused;
  }

  get variant(): string {
    return this.options.iptables.variant;
  }

  /** What rules are made by, besides Services. */
  get rendering(): RenderOptions {
    return this.render;
  }

  /** The chains that should stand; the last changes of Services may be missing. */
  get desired(): Readonly<Record<Table, Chains>> {
    return this.ruleset.chains;
  }

  /** True for the cluster address of a Service that has endpoints. */
  isServed(address: string): boolean {
    return this.ruleset.guards(address);
  }

  /** Rules that should stand, counted anew at each call. */
  get ruleCounts(): Record<Table, number> {
    const count = (chains: Chains): number => {
      let rules = 0;
      for (const text of chains.values()) if (text !== '') rules += text.split('\n').length;
      return rules;
    };
    return { nat: count(this.ruleset.chains.nat), filter: count(this.ruleset.chains.filter) };
  }

  /** Service ports with a Local policy that have endpoints, but none on this node, by the policy's kind. */
  get withoutLocalEndpoints(): MissingCounts {
    return this.missingLocal.counts;
  }

  /** Tables that cannot be printed, and what to do about it. */
  get unreadable(): readonly string[] {
    return this.cannotRead;
  }

  /** True when some Service has a node port with an endpoint behind it. */
  get hasNodePorts(): boolean {
    return this.ruleset.hasNodePorts;
  }

  /** A cheap look at the way from PREROUTING to the chain that leads to all others: false when it is broken. */
  async looksWhole(): Promise<boolean> {
    const { iptables } = this.options;
    const { chain, rule } = entrance;
    const wanted = this.installed?.nat.get('KUBE-SERVICES');
    try {
      const standing = await iptables.list('nat', 'KUBE-SERVICES');
      if (wanted !== standing?.filter((line) => line.startsWith('-A ')).join('\n')) return false;
      return (await iptables.list('nat', chain))?.includes(`-A ${chain} ${rule}`) === true;
    } catch (error) {
      if (!isTwillError(error, 'conflict')) throw error;
      return iptables.has('nat', `-A ${chain} ${rule}`);
    }
  }

  /** Forget what is known of the kernel: the next sync reads it. */
  invalidate(): void {
    this.installed = undefined;
  }

  setNode(node: NodeView): void {
    this.node = node;
  }

  /** @returns Services whose rules depend on what changed: they are to be given to the next sync */
  configure(render: RenderOptions): readonly string[] {
    const before = this.render;
    this.render = render;
    this.ruleset.configure(render);
    if (render.fromPod !== before.fromPod) return [...this.ruleset.services()];
    const same = [...render.nodeAddresses].sort().join() === [...before.nodeAddresses].sort().join();
    return same ? [] : [...this.ruleset.services()].filter((key) => this.ruleset.isFirewalled(key));
  }

  /**
   * @param states the Services to look at again
   * @param full read the kernel's rules first; done anyway when they are not known
   * @throws TwillError when the kernel could not be changed; the next sync is then full
   */
  async sync(
    states: readonly (readonly [key: string, state: ServiceState])[],
    full: boolean,
  ): Promise<IptablesSync> {
    const readKernel = full || this.installed === undefined;
    const tally = newTally();
    const { iptables } = this.options;
    const isLarge = states.length >= AHEAD_SERVICES && iptables.variant === 'legacy';
    const ahead = isLarge ? new WriteAhead(iptables, tally) : undefined;
    try {
      const reading = readKernel ? this.readKernel() : undefined;
      reading?.catch(() => {});
      let entries = 0;
      const turns = new Turns();
      for (let index = 0; index < states.length; index++) {
        this.setService(...states[index]!);
        if (turns.due) await turns.next();
        if (ahead !== undefined && index % BATCH_SERVICES === BATCH_SERVICES - 1)
          entries += await this.putAhead(ahead, reading);
      }
      const jumpsOf = await reading;
      const changed = this.ruleset.flush();
      const plan = jumpsOf === undefined ? this.compareChanged(changed) : this.compareAll(jumpsOf);
      entries += await this.apply(plan, tally, ahead);
      return { full: readKernel, ...tally, entries };
    } catch (error) {
      await ahead?.abandon();
      this.invalidate();
      throw error;
    }
  }

  /** @returns by how many entries the tables grow */
  private async putAhead(ahead: WriteAhead, reading: Promise<unknown> | undefined): Promise<number> {
    try {
      await reading;
    } catch {
      return 0; // told once all Services are known
    }
    const state = { desired: this.ruleset.chains.nat, installed: this.installed!.nat };
    const change = tableChange('nat', this.ruleset.takeComplete(), state);
    await ahead.put(change);
    return this.remember([change]);
  }

  private setService(key: string, state: ServiceState): void {
    this.refused.delete(key);
    const entries = serviceEntries(state, this.family, this.node);
    this.options.onEntries?.(key, entries);
    this.missingLocal.setService(key, entries);
    this.ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, this.render)),
    );
  }

  private compareChanged(changed: Readonly<Record<Table, ReadonlySet<string>>>): TableChange[] {
    return tables.map((table) =>
      tableChange(table, changed[table], {
        desired: this.ruleset.chains[table],
        installed: this.installed![table],
      }),
    );
  }

  /** Reads what stands. @returns what is to be done about jumps */
  private async readKernel(): Promise<Readonly<Record<Table, JumpChanges>>> {
    const { iptables, log } = this.options;
    const standing = await readStanding(iptables, this.render.localhostNodePorts, this.installed);
    for (const error of standing.unreadable)
      if (!this.cannotRead.includes(error)) log.warn({ error }, 'rules are checked one by one');
    this.cannotRead = standing.unreadable;
    if (!this.hasRead) this.options.onStanding?.(standing.chains.nat);
    this.hasRead = true;
    this.installed = standing.chains;
    return standing.jumps;
  }

  private compareAll(jumpsOf: Readonly<Record<Table, JumpChanges>>): TableChange[] {
    return tables.map((table) => {
      const state = { desired: this.ruleset.chains[table], installed: this.installed![table] };
      takeOver(state);
      const names = new Set([...state.desired.keys(), ...state.installed.keys()]);
      return tableChange(table, names, state, jumpsOf[table]);
    });
  }

  /** Writes the changes, leaving out Services the kernel refuses. @returns by how many entries the tables grew */
  private async apply(plan: readonly TableChange[], tally: Tally, ahead?: WriteAhead): Promise<number> {
    let changes = plan;
    for (let attempt = 0; ; attempt++) {
      let document: string | undefined;
      try {
        const rest = attempt === 0 && ahead !== undefined ? await ahead.finish(changes) : changes;
        for (const portion of this.portions(rest)) {
          document = renderDocument(portion);
          if (document === '') continue;
          await this.options.iptables.restore(document);
          count(tally, portion, document.length);
        }
        return this.remember(changes);
      } catch (error) {
        if (attempt >= MAX_REFUSALS_PER_SYNC || !this.leaveOut(document, error)) throw error;
        changes = await this.compareAfterRefusal();
      }
    }
  }

  private portions(changes: readonly TableChange[]): (readonly TableChange[])[] {
    return this.options.iptables.variant === 'nft' ? inPortions(changes, PORTION_RULES) : [changes];
  }

  private async compareAfterRefusal(): Promise<TableChange[]> {
    this.ruleset.flush();
    return this.compareAll(await this.readKernel());
  }

  /** Takes the Service whose rule the kernel refused out of the rules. @returns false when there is none to blame */
  private leaveOut(document: string | undefined, error: unknown): boolean {
    if (!isTwillError(error, 'invalid')) return false;
    // Refused ahead: written once more, in a document that is at hand.
    if (document === undefined) return true;
    const text = refusedLine(document, error);
    const key = text && this.ruleset.ownerOf(text);
    if (!key) return false;
    const reason = describeError(error);
    this.options.log.error(
      { service: key, rule: text, error: reason },
      'rule refused, Service left without rules',
    );
    this.refused.set(key, reason);
    this.ruleset.setService(key, []);
    return true;
  }

  /** @returns by how many entries the tables grew */
  private remember(changes: readonly TableChange[]): number {
    let entries = 0;
    for (const change of changes) {
      const chains = this.installed![change.table];
      entries += addedEntries(change, chains);
      for (const one of change.write) chains.set(one[0], one[1]);
      for (const name of change.remove) chains.delete(name);
    }
    return entries;
  }
}
