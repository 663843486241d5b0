import { KernelRefusal } from '../../kernel/errno.ts';
import { ownedTable } from '../../kernel/nft.ts';
import type { NftTable } from '../../kernel/nft-table.ts';
import type { Family } from '../../model/address.ts';
import { describeError, isTwillError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { Turns } from '../../process/turns.ts';
import type { FamilyRules, SyncResult } from '../family-rules.ts';
import { type MissingCounts, MissingLocal } from '../plan/missing-local.ts';
import { type NodeView, type ServicePortEntry, serviceEntries } from '../plan/table.ts';
import type { ServiceState } from '../plan/tracker.ts';
import { applyFirst, ChainWriter, type Tally, type WantedChains } from './chain-writer.ts';
import type { Chain } from './plan/chains.ts';
import {
  allDifferences,
  type Difference,
  differences,
  elementChanges,
  inOrder,
  inTransactions,
} from './plan/changes.ts';
import type { Elements } from './plan/elements.ts';
import { entrances, layouts, type SetName, setNames } from './plan/names.ts';
import type { RenderOptions } from './plan/options.ts';
import { packedText } from './plan/pack.ts';
import { elsewhere } from './plan/probe.ts';
import { Ruleset } from './plan/ruleset.ts';
import { renderServicePort } from './plan/service-rules.ts';
import { readChains, readStanding, type StandingRules } from './standing-rules.ts';

export interface NftRulesOptions {
  readonly table: NftTable;
  readonly render: RenderOptions;
  readonly node: NodeView;
  readonly log: Log;
  /** Told the entries of every Service whose rules are made. */
  readonly onEntries?: (service: string, entries: readonly ServicePortEntry[]) => void;
  /** Told what stood before anything was written. */
  readonly onStanding?: (standing: StandingRules) => void;
}

/** What the kernel is known to have. */
interface Installed {
  readonly elements: Elements;
  readonly chains: ChainWriter;
}

/**
 * Makes the kernel's table of one family equal to the table of Services. What is installed is kept in memory, so a sync
 * writes only elements that changed; the first one, and any asked to be full, lists the kernel's table and takes over
 * what stands.
 */
export class NftRules implements FamilyRules {
  readonly mode = 'nftables';
  readonly family: Family;
  readonly unreadable: readonly string[] = [];
  private readonly options: NftRulesOptions;
  private readonly ruleset: Ruleset;
  private readonly missingLocal = new MissingLocal();
  private installed: Installed | undefined;
  private node: NodeView;
  private render: RenderOptions;
  private hasRead = false;
  /** Services whose state is not in the ruleset yet. */
  private readonly waiting = new Map<string, ServiceState>();
  private readonly refused = new Map<string, string>();

  constructor(options: NftRulesOptions) {
    this.options = options;
    this.family = options.table.family;
    this.node = options.node;
    this.render = options.render;
    this.ruleset = new Ruleset(options.render);
  }

  /** Services for which there are no numbers, and those that ask for elements which the kernel refuses. */
  get refusals(): ReadonlyMap<string, string> {
    return this.refused;
  }

  /** What should stand, for those who compare. */
  get desired(): { readonly elements: Elements; readonly chains: readonly Chain[] } {
    return { elements: this.ruleset.elements, chains: this.ruleset.chains() };
  }

  /** What rules depend on besides Services. */
  get rendering(): RenderOptions {
    return this.render;
  }

  isServed(address: string): boolean {
    return this.ruleset.serves(address);
  }

  get ruleCounts(): Record<SetName, number> {
    const { elements } = this.ruleset;
    return Object.fromEntries(setNames.map((set) => [set, elements[set].size])) as Record<SetName, number>;
  }

  get withoutLocalEndpoints(): MissingCounts {
    return this.missingLocal.counts;
  }

  get hasNodePorts(): boolean {
    return this.ruleset.hasNodePorts;
  }

  /** Whether the chains that packets pass are those that were written. */
  async looksWhole(): Promise<boolean> {
    const { table } = this.options;
    if ((await table.state()) !== 'active') return false;
    return this.installed?.chains.areThose(await readChains(table)) === true;
  }

  invalidate(): void {
    this.installed = undefined;
  }

  setNode(node: NodeView): void {
    this.node = node;
  }

  /** @returns Services whose elements depend on what changed: they are to be given to the next sync */
  configure(render: RenderOptions): readonly string[] {
    const before = this.render;
    this.render = render;
    this.ruleset.configure(render);
    const same = [...render.nodeAddresses].sort().join() === [...before.nodeAddresses].sort().join();
    return same ? [] : [...this.ruleset.keys()].filter((key) => this.ruleset.isFirewalled(key));
  }

  async sync(
    states: readonly (readonly [key: string, state: ServiceState])[],
    full: boolean,
  ): Promise<SyncResult> {
    const readKernel = full || this.installed === undefined || this.ruleset.isCrowded;
    const tally: Tally = { bytes: 0, transactions: 0 };
    // Who gives them gives each once, also when the kernel cannot be read just now.
    for (const [key, state] of states) this.waiting.set(key, state);
    try {
      const standing = readKernel ? await readStanding(this.options.table) : undefined;
      const isFirst = standing !== undefined && !this.hasRead;
      if (isFirst) this.ruleset.adopt(standing);
      await this.setServices();
      if (isFirst) this.options.onStanding?.(standing);
      await (standing === undefined ? this.write(undefined, tally) : this.writeAll(standing, tally));
      return { full: readKernel, ...tally, entries: 0 };
    } catch (error) {
      this.invalidate();
      throw await this.explained(error);
    }
  }

  /** Who may write everything, and not into our table, is told why. */
  private async explained(error: unknown): Promise<unknown> {
    const { table } = this.options;
    if (!isTwillError(error, 'permission') || (await table.state().catch(() => undefined)) !== 'owned')
      return error;
    return ownedTable(`${this.family.nft} ${table.name}`);
  }

  private async setServices(): Promise<void> {
    const turns = new Turns();
    for (const [key, state] of this.waiting) {
      this.waiting.delete(key);
      this.setService(key, state);
      if (turns.due) await turns.next();
    }
  }

  private setService(key: string, state: ServiceState): void {
    this.refused.delete(key);
    const entries = serviceEntries(state, this.family, this.node);
    this.options.onEntries?.(key, entries);
    this.missingLocal.setService(key, entries);
    const rules = entries.map((entry) => renderServicePort(entry, this.render));
    try {
      this.ruleset.setService(key, rules);
    } catch (error) {
      if (!isTwillError(error, 'exhausted')) throw error;
      this.leaveOut(key, describeError(error));
    }
  }

  /** Others are served all the same. */
  private leaveOut(key: string, reason: string): void {
    this.options.log.error({ service: key, error: reason }, 'Service left without rules');
    this.refused.set(key, reason);
    this.ruleset.setService(key, []);
  }

  private get wantedChains(): WantedChains {
    return { chains: this.ruleset.chains(), shapes: this.ruleset.shapeChains() };
  }

  /**
   * A table that does not become as it should be (sets of another version's kind, somebody's rules in ours that hold on to
   * something) is made anew; not where a new one would be refused, too: what stands serves at least.
   */
  private async writeAll(standing: StandingRules, tally: Tally): Promise<void> {
    const { table, log } = this.options;
    try {
      await this.write(standing, tally);
      return;
    } catch (error) {
      if (!isTwillError(error, 'invalid')) throw error;
    }
    try {
      // Others may have written meanwhile.
      await this.write(await readStanding(table), tally);
    } catch (error) {
      if (!isTwillError(error, 'invalid') || (await table.state()) === 'missing') throw error;
      await applyFirst(table, elsewhere(this.family.nft, this.wantedChains));
      log.warn({ family: this.family.name, error: describeError(error) }, 'the nftables table is made anew');
      await table.apply(`delete table ${this.family.nft} ${table.name}\n`);
      await this.write(await readStanding(table), tally);
    }
  }

  private async write(standing: StandingRules | undefined, tally: Tally): Promise<void> {
    const touched = this.ruleset.takeTouched();
    if (standing !== undefined) {
      this.ruleset.adopt(undefined);
      this.ruleset.pruneShapes();
      const chains = new ChainWriter(this.options.table, standing, this.wantedChains);
      this.installed = { elements: standing.elements, chains };
      this.hasRead = true;
    }
    const { elements: installed, chains } = this.installed!;
    const state = { wanted: this.ruleset.elements, installed };
    const wanted = this.wantedChains;
    await chains.write(wanted, false, tally);
    const found = standing === undefined ? inOrder(differences(touched, state)) : allDifferences(state);
    // What is not as it is known to be is looked at before a Service is blamed for it.
    await this.writeAllOf(found, { installed, tally, blames: standing !== undefined });
    for (let left = this.ruleset.takeTouched(); left.size > 0; left = this.ruleset.takeTouched())
      await this.writeAllOf(inOrder(differences(left, state)), { installed, tally, blames: true });
    await chains.write(wanted, true, tally);
    if (standing !== undefined) await chains.prune(wanted, tally);
    await chains.stamp(tally);
  }

  private async writeAllOf(found: Iterable<Difference | undefined>, how: Writing): Promise<void> {
    const turns = new Turns();
    for (const portion of inTransactions(found)) {
      if (portion.length > 0) await this.writeParts(portion, how);
      if (turns.due) await turns.next();
    }
  }

  /** What the kernel refuses is written in ever smaller parts, until it is known whose it is. */
  private async writeParts(portion: readonly Difference[], how: Writing): Promise<void> {
    try {
      await this.writeElements(portion, how);
    } catch (error) {
      if (!how.blames || !isRefusal(error)) throw error;
      if (portion.length === 1) {
        this.blame(portion[0]!, error);
        return;
      }
      const half = portion.length >> 1;
      await this.writeParts(portion.slice(0, half), how);
      await this.writeParts(portion.slice(half), how);
    }
  }

  /** Takes the Service that asks for what the kernel refuses out of the rules. @throws the error where that is no use */
  private blame({ set, key, wanted }: Difference, error: unknown): void {
    const service = wanted === undefined ? undefined : this.ruleset.ownerOf(set, key);
    if (service === undefined || this.refused.size >= MOST_REFUSED || isShort(error)) throw error;
    const text = packedText(layouts[set].key, key, this.render.v6);
    this.leaveOut(service, `${describeError(error)}: element ${text} of ${set}`);
  }

  private async writeElements(portion: readonly Difference[], { installed, tally }: Writing): Promise<void> {
    const comment = (set: SetName, key: string): string | undefined =>
      entrances.has(set) ? this.ruleset.holder(set, key) : undefined;
    tally.bytes += await this.options.table.write(elementChanges(portion, comment, this.render.v6));
    tally.transactions++;
    for (const { set, key, wanted } of portion) {
      if (wanted === undefined) installed[set].delete(key);
      else installed[set].set(key, wanted);
    }
  }
}

/** How elements are written. */
interface Writing {
  readonly installed: Elements;
  readonly tally: Tally;
  /** A Service of which the kernel refuses something is left out. */
  readonly blames: boolean;
}

/** A kernel that refuses more has another problem than these Services. */
const MOST_REFUSED = 50;

/** Says that something is missing or in use, which is another program's doing, or that nothing may be done. */
const otherwise: ReadonlySet<string> = new Set(['ENOENT', 'EBUSY', 'EAGAIN', 'EPERM', 'EACCES']);

/** The kernel will not have what it is given. */
function isRefusal(error: unknown): boolean {
  return error instanceof KernelRefusal && !otherwise.has(error.errno);
}

/**
 * What the kernel is short of, also for one element alone: it may have it again a moment later. ENFILE is none of it: it is
 * how nf_tables says that a set is full.
 */
const shortages: ReadonlySet<string> = new Set(['ENOMEM', 'ENOBUFS', 'EINTR']);

function isShort(error: unknown): boolean {
  return error instanceof KernelRefusal && shortages.has(error.errno);
}
