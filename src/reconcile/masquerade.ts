import type { Log } from '../config/log.ts';
import {
  forwardChain,
  masqueradeChain,
  type TrafficChain,
  type TrafficRule,
  type TrafficRules,
} from '../desired/masquerade.ts';
import { detectVariant, type Iptables, openIptables } from '../kernel/iptables.ts';
import type { Family } from '../model/address.ts';
import { chainDocument } from '../render/masquerade-iptables.ts';
import { ReconcileLoop } from './loop.ts';

export interface MasqueradeOptions {
  readonly log: Log;
  /** Milliseconds between checks; a check reads two short chains and writes only where they differ. */
  readonly resyncMs: number;
  /** The rules that should stand; empty while there is no lease. */
  readonly rules: () => readonly TrafficRules[];
}

/** Keeps flannel's masquerade and forward rules in iptables, in the variant that the node uses. */
export class Masquerade {
  readonly loop: ReconcileLoop;
  private readonly options: MasqueradeOptions;
  private readonly tools = new Map<Family['name'], Iptables>();
  private first = true;
  /** Times that rules had to be put right after they had stood. */
  repairs = 0;

  constructor(options: MasqueradeOptions) {
    this.options = options;
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
    const wanted = this.options.rules();
    for (const rules of wanted) {
      await this.ensure(rules, masqueradeChain, rules.masquerade);
      await this.ensure(rules, forwardChain, rules.forward);
    }
    if (wanted.length > 0) this.first = false;
  }

  private async ensure(
    { family, randomFully }: TrafficRules,
    chain: TrafficChain,
    rules: readonly TrafficRule[] | undefined,
  ): Promise<void> {
    const tool = await this.tool(family);
    const [own, parent = []] = await Promise.all([
      tool.list(chain.table, chain.name),
      tool.list(chain.table, chain.parent),
    ]);
    const document = chainDocument(chain, rules, randomFully, { own, parent });
    if (document === undefined) return;
    await tool.restore(document);
    if (this.first) return;
    this.repairs++;
    this.options.log.warn(
      { chain: chain.name, family: family.name },
      'put rules right that somebody had changed',
    );
  }
}
