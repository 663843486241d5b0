import type { Log } from '../config/log.ts';
import { FlowTable } from '../desired/stale-flows.ts';
import type { Conntrack } from '../kernel/conntrack.ts';
import type { Family } from '../model/address.ts';
import { ReconcileLoop } from './loop.ts';

export interface ProxyFlowsOptions {
  readonly family: Family;
  readonly conntrack: Conntrack;
  /** The node's addresses, on which node ports answer. */
  readonly ownAddresses: () => ReadonlySet<string>;
  readonly onDeleted: (count: number) => void;
  readonly log: Log;
}

/** Least time between two looks at the connection table, which may be long. */
const MIN_INTERVAL_MS = 200;
const RESYNC_MS = 60_000;

/** Deletes tracked UDP and SCTP flows that no longer match the Services. Run after rules are in sync, never before. */
export class ProxyFlows {
  readonly table = new FlowTable();
  private readonly options: ProxyFlowsOptions;
  private readonly loop: ReconcileLoop;

  constructor(options: ProxyFlowsOptions) {
    this.options = options;
    this.loop = new ReconcileLoop({
      name: `proxy-flows-${options.family.name}`,
      log: options.log,
      work: () => this.reconcile(),
      minIntervalMs: MIN_INTERVAL_MS,
      resyncMs: RESYNC_MS,
    });
  }

  /** Rules are in sync: flows that changes left behind can go now. */
  rulesStand(): void {
    if (this.table.dirty) this.loop.trigger('rules changed');
  }

  async stop(): Promise<void> {
    await this.loop.stop();
  }

  private async reconcile(): Promise<void> {
    const { family, conntrack, ownAddresses, log } = this.options;
    if (this.table.isEmpty) return;
    this.table.beginLook();
    try {
      const own = ownAddresses();
      const isOwn = (address: string): boolean => own.has(address);
      const stale = await conntrack.list(family, (flow) => this.table.isStale(flow, isOwn));
      if (stale.length > 0) {
        const deleted = await conntrack.delete(family, stale);
        this.options.onDeleted(deleted);
        log.info({ family: family.name, deleted }, 'stale flows deleted');
      }
      this.table.forgetGone();
    } catch (error) {
      this.table.lookAgain();
      throw error;
    }
  }
}
