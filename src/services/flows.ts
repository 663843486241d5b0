import type { Conntrack } from '../kernel/conntrack.ts';
import type { Family } from '../model/address.ts';
import type { Flow } from '../model/flow.ts';
import { monotonicMs } from '../process/clock.ts';
import type { Log } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { FlowTable, isLost } from './plan/stale-flows.ts';

export interface ProxyFlowsOptions {
  readonly family: Family;
  readonly conntrack: Conntrack;
  /** Tells addresses of Services that have endpoints. */
  readonly isServed: (address: string) => boolean;
  /** The node's addresses on which node ports answer. */
  readonly nodePortAddresses: () => ReadonlySet<string>;
  readonly onDeleted: (count: number) => void;
  /** How long a look at the connections took. */
  readonly onLooked: (seconds: number) => void;
  readonly log: Log;
}

/** Least time between two looks at the connection table, which may be long. */
const MIN_INTERVAL_MS = 200;
const RESYNC_MS = 60_000;

/**
 * Deletes tracked UDP and SCTP flows that no longer match the Services, and TCP connections that began while rules were
 * missing. Run after rules are in sync, never before.
 */
export class ProxyFlows {
  readonly table = new FlowTable();
  private readonly options: ProxyFlowsOptions;
  private readonly loop: ReconcileLoop;
  private repaired = false;

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

  /** Rules stand that were missing before: connections may have begun without them. */
  rulesRepaired(): void {
    this.repaired = true;
    this.loop.trigger('rules were missing');
  }

  async stop(): Promise<void> {
    await this.loop.stop();
  }

  private async reconcile(): Promise<void> {
    const { family, conntrack, nodePortAddresses, isServed, log } = this.options;
    const { repaired } = this;
    if (this.table.isEmpty && !repaired) return;
    this.repaired = false;
    this.table.beginLook();
    const started = monotonicMs();
    try {
      const own = nodePortAddresses();
      const isOwn = (address: string): boolean => own.has(address);
      const isStale = (flow: Flow): boolean => this.table.isStale(flow, isOwn) || isLost(flow, isServed);
      const stale = await conntrack.list(family, isStale, { tcp: repaired });
      if (stale.length > 0) {
        const deleted = await conntrack.delete(family, stale);
        this.options.onDeleted(deleted);
        log.info({ family: family.name, deleted }, 'stale flows deleted');
      }
      this.options.onLooked((monotonicMs() - started) / 1000);
      this.table.forgetGone();
    } catch (error) {
      this.table.lookAgain();
      this.repaired ||= repaired;
      throw error;
    }
  }
}
