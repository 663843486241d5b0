import { type Iptables, openIptables } from '../kernel/iptables.ts';
import { applyNft, listNftTable } from '../kernel/nft.ts';
import { NftNotices } from '../kernel/nft-notices.ts';
import { detectVariant } from '../kernel/used-iptables.ts';
import { type Family, ipv4 } from '../model/address.ts';
import { Contest, contestedChecks } from '../model/contest.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { TrafficChains } from './chains.ts';
import { OtherRules } from './other-rules.ts';
import { nftDocument, nftTableText } from './plan/nftables.ts';
import { nftTable, type TrafficRules } from './plan/rules.ts';
import { type RulesKind, RulesWatch } from './stamp.ts';

export interface MasqueradeOptions {
  readonly log: Log;
  /** Milliseconds between checks; one reads short chains where somebody has written rules, and writes where they differ. */
  readonly resyncMs: number;
  /** Whether nftables' own rules are to be written instead of iptables'. @param again rules have changed: look again */
  readonly nftables: (again: boolean) => Promise<boolean>;
  /** The rules that should stand; empty while there is no lease. */
  readonly rules: () => readonly TrafficRules[];
  /** The node's loopback services are guarded from now on. */
  readonly onGuarded?: () => void;
}

/** What has become of one family's rules. */
interface Made {
  /** The rules, and their kind. */
  readonly print: string;
  readonly rules: TrafficRules;
  /** Chains and tables that have stood so: what is written to them later puts them right. */
  readonly stood: Set<string>;
  /** Rules of another kind were taken away. */
  cleared: boolean;
}

/** Keeps flannel's masquerade and forward rules, in nftables or in the variant of iptables that the node uses. */
export class Masquerade {
  readonly loop: ReconcileLoop;
  private readonly options: MasqueradeOptions;
  private readonly tools = new Map<Family['name'], Iptables>();
  /** What rules are made with, as of the last run. */
  private nftables = false;
  private readonly notices = new Map<Family, NftNotices>();
  /** The rules of the last run, and their kind. */
  private wanted = '';
  /** What {@link wanted} was made of. */
  private current: readonly TrafficRules[] = [];
  /** Families that may have rules of ours: one that cannot have all of its own makes no other wait. */
  private readonly made = new Map<Family, Made>();
  private readonly watch = new RulesWatch();
  /** This run has changed rules. */
  private wrote = false;
  /** What the kernel shows after a table was written. */
  private readonly readBack = new Map<string | undefined, string | undefined>();
  /** Times that rules had to be put right after they had stood. */
  repairs = 0;
  private readonly contest = new Contest();
  /** A repair waits, because the same one was made again and again. */
  private waits = false;
  private readonly chains: TrafficChains;
  private readonly others: OtherRules;

  constructor(options: MasqueradeOptions) {
    this.options = options;
    this.chains = new TrafficChains({
      log: options.log,
      mustWait: (chain, family) => this.mustWait(chain, family),
      repaired: (chain, family) => this.repaired(chain, family),
      stands: (chain, family) => this.made.get(family)?.stood.add(chain),
    });
    this.others = new OtherRules(options.log, () => {
      this.wrote = true;
    });
    this.loop = new ReconcileLoop({
      name: 'masquerade',
      log: options.log,
      work: () => this.work(),
      resyncMs: options.resyncMs,
    });
  }

  private async tool(family: Family): Promise<Iptables> {
    const known = this.tools.get(family.name);
    if (known !== undefined) return known;
    const { variant, why } = await detectVariant(family);
    this.options.log.info({ program: `${family.iptables}-${variant}`, why }, 'chose the iptables variant');
    const tool = openIptables(family, variant);
    this.tools.set(family.name, tool);
    return tool;
  }

  private async work(): Promise<void> {
    const rules = this.options.rules();
    this.current = rules;
    if (rules.length === 0) return;
    this.nftables = await this.options.nftables(false);
    const state = await this.watch.read(await this.kinds(rules));
    if (this.print(rules) === this.wanted && this.watch.isKnown(state)) {
      this.options.log.debug('nobody has written rules');
      return;
    }
    this.nftables = await this.options.nftables(true);
    this.listen(rules);
    this.wrote = false;
    this.waits = false;
    const failures: unknown[] = [];
    // What is wrong with one family keeps no other from its rules.
    const attempt = (work: Promise<void>): Promise<void> =>
      work.catch((error: unknown) => void failures.push(error));
    for (const each of rules) await attempt(this.ensureFamily(each));
    for (const family of this.made.keys())
      if (!rules.some((wanted) => wanted.family === family)) await attempt(this.leave(family));
    if (failures.length > 0) throw failures[0];
    this.wanted = this.print(rules);
    this.watch.learn(this.wrote || this.waits ? undefined : state);
    this.options.log.debug({ wrote: this.wrote }, 'looked at the rules');
  }

  private async ensureFamily(rules: TrafficRules): Promise<void> {
    const { family } = rules;
    const { nftables } = this;
    const made = this.begin(rules);
    const guarded = (): void => {
      if (family === ipv4 && !this.waits) this.options.onGuarded?.();
    };
    if (nftables) await this.ensureTable(rules);
    else await this.chains.ensure(rules, await this.tool(family), undefined, guarded);
    guarded();
    if (made.cleared) return;
    made.cleared = await this.others.clear(rules, nftables ? 'nftables' : (await this.tool(family)).variant);
  }

  private begin(rules: TrafficRules): Made {
    const { family } = rules;
    const print = this.print([rules]);
    const before = this.made.get(family);
    if (before?.print === print) return before;
    if (this.nftables) this.chains.forget(family);
    const made = { print, rules, stood: new Set<string>(), cleared: false };
    this.made.set(family, made);
    return made;
  }

  /** Takes away what a family has that is not used any more. */
  private async leave(family: Family): Promise<void> {
    this.chains.forget(family);
    if (await this.others.clear(this.made.get(family)!.rules, undefined)) this.made.delete(family);
  }

  private print(rules: readonly TrafficRules[]): string {
    return JSON.stringify([this.nftables, rules], (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    );
  }

  private async kinds(rules: readonly TrafficRules[]): Promise<RulesKind[]> {
    const kinds: RulesKind[] = [];
    for (const { family } of rules)
      kinds.push({ family, variant: this.nftables ? 'nft' : (await this.tool(family)).variant });
    return kinds;
  }

  /** Tables of nftables' own are looked at as soon as somebody has changed them, not at the next look alone. */
  private listen(rules: readonly TrafficRules[]): void {
    const wanted = new Set(this.nftables ? rules.map(({ family }) => family) : []);
    for (const [family, notices] of this.notices) {
      if (wanted.has(family)) continue;
      notices.close();
      this.notices.delete(family);
    }
    for (const family of wanted) {
      if (this.notices.has(family)) continue;
      const changed = (): void => this.loop.trigger('rules were changed');
      this.notices.set(family, new NftNotices(family, nftTable(family), changed));
    }
  }

  /** The next run looks at the rules, whether somebody has written some or not. */
  lookAgain(): void {
    this.watch.learn(undefined);
  }

  /** The rules that should stand, as of the last run, and which variant of iptables is used. */
  state(): {
    readonly nftables: boolean;
    readonly wanted: readonly TrafficRules[];
    readonly variants: ReadonlyMap<Family['name'], string>;
    /** How nft shows tables that were written so. */
    readonly shown: ReadonlyMap<string, string>;
  } {
    const variants = new Map([...this.tools].map(([name, { variant }]) => [name, variant]));
    const shown = new Map<string, string>();
    for (const [wanted, as] of this.readBack)
      if (wanted !== undefined && as !== undefined) shown.set(wanted, as);
    return { nftables: this.nftables, wanted: this.current, variants, shown };
  }

  async stop(): Promise<void> {
    await this.loop.stop();
    this.watch.close();
    for (const notices of this.notices.values()) notices.close();
  }

  private async ensureTable(rules: TrafficRules): Promise<void> {
    const { family } = rules;
    const standing = await listNftTable(family, nftTable(family));
    const wanted = nftTableText(rules);
    if (standing === wanted || (standing !== undefined && standing === this.readBack.get(wanted))) {
      this.made.get(family)?.stood.add(nftTable(family));
      return;
    }
    if (this.mustWait(nftTable(family), family)) return;
    let shown: string | undefined;
    const alone = await this.watch.alone({ family, variant: 'nft' }, async () => {
      await applyNft(nftDocument(rules));
      shown = await listNftTable(family, nftTable(family));
    });
    // Versions of nft differ in how they print the same rules; what others changed at once must not pass for ours.
    if (alone) this.readBack.set(wanted, shown);
    this.repaired(nftTable(family), family);
    this.made.get(family)?.stood.add(nftTable(family));
  }

  /** What somebody should look at, though the rules may stand. */
  warnings(): Check[] {
    const unreadable = [...this.chains.unreadable.values(), ...this.others.left.values()].map(
      (detail): Check => ({ name: 'rules', state: 'warning', detail }),
    );
    return [...unreadable, ...contestedChecks(this.contest, monotonicMs())];
  }

  private mustWait(chain: string, family: Family): boolean {
    const stood = this.made.get(family)?.stood.has(chain) === true;
    if (!stood || this.contest.wait(`${chain} (${family.name})`, monotonicMs()) === 0) return false;
    this.waits = true;
    return true;
  }

  private repaired(chain: string, family: Family): void {
    this.wrote = true;
    if (this.made.get(family)?.stood.has(chain) !== true) return;
    this.repairs++;
    const { log } = this.options;
    log.warn({ chain, family: family.name }, 'put rules right that somebody had changed');
    if (this.contest.note(`${chain} (${family.name})`, monotonicMs()).begins)
      log.error(
        { chain, family: family.name },
        'somebody changes these rules again and again: repairs wait from now on',
      );
  }
}
