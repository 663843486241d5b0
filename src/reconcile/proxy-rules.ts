import { createHash } from 'node:crypto';
import type { Log } from '../config/log.ts';
import {
  isExternal,
  type NodeView,
  type ServicePortEntry,
  serviceEntries,
} from '../desired/service-table.ts';
import type { ServiceState } from '../desired/service-tracker.ts';
import type { Iptables } from '../kernel/iptables.ts';
import type { Written } from '../kernel/rules-stamp.ts';
import type { Family } from '../model/address.ts';
import { describeError, isTwillError } from '../model/error.ts';
import {
  addedEntries,
  compareJumps,
  type InstalledTable,
  isEmpty,
  parseSaved,
  renderDocument,
  type TableChange,
  tableChange,
} from '../render/iptables/document.ts';
import { isOwnChain, jumps, localnetJumps, type Table, tables } from '../render/iptables/names.ts';
import type { RenderOptions } from '../render/iptables/options.ts';
import { inPortions } from '../render/iptables/portions.ts';
import { type Chains, Ruleset } from '../render/iptables/ruleset.ts';
import { renderServicePort } from '../render/iptables/service-rules.ts';

export function sha256(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}

export interface ProxyRulesOptions {
  readonly family: Family;
  readonly iptables: Iptables;
  readonly render: RenderOptions;
  readonly node: NodeView;
  readonly log: Log;
  /** Told the entries of every Service whose rules are made. */
  readonly onEntries?: (service: string, entries: readonly ServicePortEntry[]) => void;
}

/** What one sync wrote. */
export interface SyncResult extends Written {
  /** The kernel's rules were read and compared, not only the changed chains written. */
  readonly full: boolean;
  readonly bytes: number;
  readonly chainsWritten: number;
  readonly chainsRemoved: number;
}

const MAX_REFUSALS_PER_SYNC = 50;
/** Above twice as many rules a change is several transactions; with legacy each of them would rewrite the whole table. */
const PORTION_RULES = 5000;

/**
 * Makes the kernel's rules of one family equal to the table of Services. What is installed is kept in memory, so a sync
 * writes only the chains that changed; the first one, and any asked to be full, reads the kernel's rules and takes over
 * what stands.
 */
export class ProxyRules {
  readonly family: Family;
  private readonly options: ProxyRulesOptions;
  private readonly ruleset: Ruleset;
  private installed: Record<Table, Chains> | undefined;
  private readonly refused = new Map<string, string>();
  private readonly lacking = new Map<string, { internal: number; external: number }>();
  private node: NodeView;
  private render: RenderOptions;

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
  get withoutLocalEndpoints(): { internal: number; external: number } {
    const counts = { internal: 0, external: 0 };
    for (const { internal, external } of this.lacking.values()) {
      counts.internal += internal;
      counts.external += external;
    }
    return counts;
  }

  /** A cheap look at the way from PREROUTING to the chain that leads to all others: false when it is broken. */
  async looksWhole(): Promise<boolean> {
    const wanted = this.installed?.nat.get('KUBE-SERVICES');
    const standing = await this.options.iptables.list('nat', 'KUBE-SERVICES');
    if (wanted !== standing?.filter((line) => line.startsWith('-A ')).join('\n')) return false;
    const entrance = await this.options.iptables.list('nat', 'PREROUTING');
    return entrance?.some((line) => line.endsWith(' -j KUBE-SERVICES')) === true;
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
    states: Iterable<readonly [key: string, state: ServiceState]>,
    full: boolean,
  ): Promise<SyncResult> {
    for (const [key, state] of states) this.setService(key, state);
    const changed = this.ruleset.flush();
    const readKernel = full || this.installed === undefined;
    try {
      const plan = readKernel ? await this.compareAll() : this.compareChanged(changed);
      const written = await this.apply(plan);
      const chainsWritten = plan.reduce((sum, change) => sum + change.write.length, 0);
      const chainsRemoved = plan.reduce((sum, change) => sum + change.remove.length, 0);
      return { full: readKernel, ...written, chainsWritten, chainsRemoved };
    } catch (error) {
      this.invalidate();
      throw error;
    }
  }

  private setService(key: string, state: ServiceState): void {
    this.refused.delete(key);
    const entries = serviceEntries(state, this.family, this.node);
    this.options.onEntries?.(key, entries);
    const lacking = entries.filter((entry) => entry.hasEndpoints && entry.localBackends.length === 0);
    const internal = lacking.filter((entry) => entry.internalLocal).length;
    const external = lacking.filter((entry) => entry.externalLocal && isExternal(entry)).length;
    if (internal + external > 0) this.lacking.set(key, { internal, external });
    else this.lacking.delete(key);
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

  private async compareAll(): Promise<TableChange[]> {
    const installed = { nat: new Map(), filter: new Map() } as Record<Table, Chains>;
    const changes: TableChange[] = [];
    const wanted = this.render.localhostNodePorts ? [...jumps, ...localnetJumps] : jumps;
    for (const table of tables) {
      const saved: InstalledTable = parseSaved(await this.options.iptables.save(table));
      const desired = this.ruleset.chains[table];
      for (const [name, text] of saved.chains) {
        // The kernel's copy of the text is part of a large string: keep our own where it says the same.
        const own = desired.get(name);
        if (own === text) installed[table].set(name, own);
        else if (own !== undefined || isOwnChain(name)) installed[table].set(name, text);
      }
      const names = new Set([...desired.keys(), ...installed[table].keys()]);
      const state = { desired, installed: installed[table] };
      changes.push(tableChange(table, names, state, compareJumps(table, wanted, saved)));
    }
    this.installed = installed;
    return changes;
  }

  /** Writes the changes, leaving out Services the kernel refuses. */
  private async apply(plan: readonly TableChange[]): Promise<Written & { readonly bytes: number }> {
    const written = { bytes: 0, transactions: 0, entries: 0 };
    let changes = plan;
    for (let attempt = 0; ; attempt++) {
      let document = '';
      try {
        for (const portion of this.portions(changes)) {
          document = renderDocument(portion);
          if (document === '') continue;
          await this.options.iptables.restore(document);
          written.bytes += document.length;
          written.transactions += portion.filter((change) => !isEmpty(change)).length;
          written.entries += this.remember(portion);
        }
        return written;
      } catch (error) {
        if (attempt >= MAX_REFUSALS_PER_SYNC || !this.leaveOut(document, error)) throw error;
        changes = await this.compareAfterRefusal();
      }
    }
  }

  private portions(changes: readonly TableChange[]): (readonly TableChange[])[] {
    return this.options.iptables.variant === 'nft' ? inPortions(changes, PORTION_RULES) : [changes];
  }

  private compareAfterRefusal(): Promise<TableChange[]> {
    this.ruleset.flush();
    return this.compareAll();
  }

  /** Takes the Service whose rule the kernel refused out of the rules. @returns false when there is none to blame */
  private leaveOut(document: string, error: unknown): boolean {
    if (!isTwillError(error, 'invalid')) return false;
    const line = /line:? (\d+)/.exec(error.message)?.[1];
    if (line === undefined) return false;
    const text = document.split('\n')[Number(line) - 1] ?? '';
    const key = this.ruleset.ownerOf(text);
    if (key === undefined) return false;
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
      for (const [name, text] of change.write) chains.set(name, text);
      for (const name of change.remove) chains.delete(name);
    }
    return entries;
  }
}
