import { describeError, isTwillError } from '../model/error.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import type { Log } from '../process/log.ts';
import type { Adoption } from './adoption.ts';
import type { HostLocal } from './hostlocal.ts';
import type { ForeignRules } from './kernel/portmap.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';
import { areDead, areOf, displacedBy, tracesOf } from './plan/remains.ts';
import type { Reservation } from './plan/resident.ts';
import { pluginIfb } from './record.ts';

export interface RemainsOptions {
  readonly hostLocal: HostLocal;
  readonly rules: ForeignRules;
  readonly adoption: Adoption;
  readonly log: Log;
  readonly podNetwork: () => PodNetworkState;
  /** All attachments, those being made included. */
  readonly records: () => readonly PodRecord[];
  readonly deleteDevice: (name: string) => Promise<void>;
}

/** Rules that cannot be read are looked for again this often. */
const ATTEMPTS = 20;

/** Takes away what another chain's plugins made for pods that are deleted or gone. */
export class Remains {
  private readonly options: RemainsOptions;
  /** How often dead rules are still looked for. */
  private attempts = ATTEMPTS;

  constructor(options: RemainsOptions) {
    this.options = options;
  }

  /**
   * What they left of a pod that is deleted; what fails keeps no pod from that.
   * @param record undefined where there is none: rules, which take a while to read, are then looked for where files tell
   *   of the pod
   * @returns whether files told of it
   */
  async release(key: PodKey, record: PodRecord | undefined): Promise<boolean> {
    const had = this.releaseFiles(key);
    if (had === undefined && record === undefined) return false;
    const traces = tracesOf(key, record, had ?? [], this.options.records());
    const ifbs = [...traces.networks].map((network) => pluginIfb({ ...key, network }));
    const { rules, deleteDevice } = this.options;
    const removed = rules.remove((found) => areOf(found, key, traces.addresses));
    for (const step of await Promise.allSettled([removed, ...ifbs.map(deleteDevice)]))
      if (step.status === 'rejected') this.failed(key, step.reason);
    return had !== undefined;
  }

  /** @returns the addresses that files held for the pod; undefined where none is about it */
  private releaseFiles(key: PodKey): Reservation[] | undefined {
    const { hostLocal } = this.options;
    try {
      return hostLocal.release(key);
    } catch (error) {
      this.failed(key, error);
      return isTwillError(error, 'permission') ? undefined : hostLocal.reservationsOf(key);
    }
  }

  private failed({ containerId }: PodKey, error: unknown): void {
    const fields = { containerId, error: describeError(error) };
    this.options.log.warn(fields, 'not all that its plugins left is removed');
    this.attempts = ATTEMPTS;
  }

  /** Has host ports that a new pod claims lead to it, and no more to adopted pods that it takes the place of. */
  async giveWay({ portMappings }: PodRecord): Promise<void> {
    const { records, rules } = this.options;
    const displaced = displacedBy(portMappings, records());
    if (displaced.size > 0) await rules.giveWay(portMappings, displaced);
  }

  /**
   * Removes rules of the portmap and bridge plugins for containers that are gone: those about addresses of this node's
   * subnets that none of the pods that stand has.
   * @throws TwillError when some cannot be read now
   */
  async removeDeadRules(): Promise<void> {
    const { podNetwork, records, log, rules, adoption } = this.options;
    const state = podNetwork();
    if (!state.ready) return;
    const subnets = state.network.families.map(({ subnet }) => subnet);
    // What was read before the look is of a pod whose device stood before it, or of none.
    const read = await rules.names();
    await adoption.look();
    const removed = await rules.remove(
      (found) =>
        adoption.isWhole && read.has(found.name) && areDead(found, records(), adoption.held(), subnets),
    );
    for (const { name, containerId } of removed)
      log.warn({ rules: name, containerId }, 'removed rules of a container that is gone');
  }

  /**
   * As {@link removeDeadRules}, until it has worked once, or has failed many times. To be called when the pods that stand
   * are known.
   */
  async removeDeadRulesOnce(): Promise<void> {
    if (this.attempts === 0 || !this.options.podNetwork().ready) return;
    this.attempts--;
    await this.removeDeadRules();
    this.attempts = 0;
  }
}
