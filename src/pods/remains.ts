import { parseAddress, prefixContains } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import type { Log } from '../process/log.ts';
import type { Adoption } from './adoption.ts';
import type { HostLocal } from './hostlocal.ts';
import { addressesOf } from './ipam.ts';
import type { ForeignRules } from './kernel/portmap.ts';
import { isNameless } from './plan/adoption.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';
import { isOfContainer } from './plan/portmap.ts';
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
    // A file may be of a pod that is long gone, and its address another's by now.
    const others = this.options.records().filter((one) => one.containerId !== key.containerId);
    const used = new Set(others.flatMap(addressesOf));
    const own = [
      ...(record === undefined ? [] : addressesOf(record)),
      ...(had ?? []).map(({ address }) => address),
    ];
    const addresses = new Set(own.filter((address) => !used.has(address)));
    const names = [key.network, record?.network ?? '', ...(had ?? []).map(({ network }) => network)];
    const ifbs = [...new Set(names)].map((network) => pluginIfb({ ...key, network }));
    const steps = [this.removeRules(key, addresses), ...ifbs.map((name) => this.options.deleteDevice(name))];
    for (const step of await Promise.allSettled(steps))
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
      return hostLocal.reservationsOf(key);
    }
  }

  private failed({ containerId }: PodKey, error: unknown): void {
    const fields = { containerId, error: describeError(error) };
    this.options.log.warn(fields, 'not all that its plugins left is removed');
    this.attempts = ATTEMPTS;
  }

  /** A container may have other interfaces, with rules of their own. */
  private async removeRules({ containerId, ifname }: PodKey, own: ReadonlySet<string>): Promise<void> {
    await this.options.rules.remove((rules) => {
      const { addresses } = rules;
      const isAbout = addresses.some((address) => own.has(address));
      if (rules.containerId === '') return isAbout;
      const isOwn = isOfContainer(rules, containerId) && (rules.ifname ?? ifname) === ifname;
      return isOwn && (isAbout || addresses.length === 0 || own.size === 0);
    });
  }

  /** Has host ports that a new pod claims lead to it, and no more to adopted pods that it takes the place of. */
  async giveWay({ portMappings }: PodRecord): Promise<void> {
    const claimed = new Set(portMappings.map(({ protocol, hostPort }) => `${protocol} ${hostPort}`));
    const before = this.options
      .records()
      .filter(({ adopted }) => adopted === true)
      .filter((record) =>
        record.portMappings.some(({ protocol, hostPort }) => claimed.has(`${protocol} ${hostPort}`)),
      );
    if (before.length === 0) return;
    await this.options.rules.giveWay(portMappings, new Set(before.flatMap(addressesOf)));
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
    const isOurs = (text: string): boolean =>
      subnets.some((subnet) => prefixContains(subnet, parseAddress(text)));
    // What was read before the look is of a pod whose device stood before it, or of none.
    const read = await rules.names();
    await adoption.look();
    const removed = await rules.remove((found) => {
      const standing = records();
      if (!adoption.isWhole || !read.has(found.name)) return false;
      if (standing.some(({ containerId }) => isOfContainer(found, containerId))) return false;
      // Those of pods that stand and are not ours to look after are somebody's, too.
      const somebodys = found.containerId === '' ? standing : standing.filter(isNameless);
      const used = new Set([...adoption.held(), ...somebodys.flatMap(addressesOf)]);
      const { addresses } = found;
      return addresses.length > 0 && addresses.every((address) => isOurs(address) && !used.has(address));
    });
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
