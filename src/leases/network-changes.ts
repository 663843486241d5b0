import { TwillError } from '../model/error.ts';
import type { Check } from '../model/health.ts';
import type { Log } from '../process/log.ts';
import { ReconcileLoop } from '../process/loop.ts';
import { networkChanges } from './plan/network-change.ts';
import type { NetworkConfig } from './plan/network-config.ts';
import type { LeaseSource } from './plan/source.ts';

export interface NetworkChangesOptions {
  readonly source: LeaseSource;
  readonly log: Log;
  /** The configuration in force at the start. */
  readonly network: NetworkConfig;
  /** How many pods have their addresses from our subnet. */
  readonly pods: () => Promise<number>;
  /** Rejects with the reason when this node cannot follow the configuration. */
  readonly possible: (network: NetworkConfig) => Promise<void>;
  readonly apply: (network: NetworkConfig) => void;
}

/**
 * Takes up a network configuration that changed while the agent runs. Everything but the pods' own addresses can change
 * under them; where the new configuration takes this node's subnet away, it waits until the node has no pods.
 */
export class NetworkChanges {
  readonly loop: ReconcileLoop;
  private readonly options: NetworkChangesOptions;
  private inForce: NetworkConfig;

  constructor(options: NetworkChangesOptions) {
    this.options = options;
    this.inForce = options.network;
    this.loop = new ReconcileLoop({
      name: 'network configuration',
      log: options.log,
      work: () => this.work(),
      backoffMs: { first: 1000, longest: 10_000 },
    });
  }

  /** Says what stands in the way of the newest configuration; undefined when it is in force. */
  check(): Check | undefined {
    const name = 'network configuration';
    const { configError } = this.options.source.status();
    if (configError !== undefined)
      return { name, state: 'warning', detail: `${configError}; the one of before stays in force` };
    const { lastError } = this.loop.status();
    return lastError === undefined ? undefined : { name, state: 'warning', detail: lastError };
  }

  private async work(): Promise<void> {
    const { source, log, pods, possible, apply } = this.options;
    const next = source.latestConfig();
    if (next === undefined) return;
    const changes = networkChanges(this.inForce, next);
    if (changes.length === 0) return;
    await possible(next);
    const own = source.own();
    if (own !== undefined && !source.keeps(next)) {
      const count = await pods();
      if (count > 0)
        throw new TwillError(
          'conflict',
          `the new network configuration (${changes.join('; ')}) takes the subnet ${own.name} away from ${count} pods of this node: drain it; the change is taken up when the last of them has gone`,
        );
    }
    log.info({ changes }, 'takes up the changed network configuration');
    this.inForce = next;
    apply(next);
  }
}
