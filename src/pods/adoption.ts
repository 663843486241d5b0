import { listAddresses } from '../kernel/netlink/addresses.ts';
import { listLinks } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Address, parseAddress, prefixContains } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import { monotonicMs } from '../process/clock.ts';
import { coalesce } from '../process/coalesce.ts';
import type { Log } from '../process/log.ts';
import type { HostLocal } from './hostlocal.ts';
import { addressesOf } from './ipam.ts';
import { askWhoAnswers } from './kernel/answers.ts';
import { ForeignRules } from './kernel/portmap.ts';
import { readResidents } from './kernel/residents.ts';
import { isNameless, planAdoption, strangersAddresses } from './plan/adoption.ts';
import type { PodRecord } from './plan/pod.ts';
import type { FoundMapping } from './plan/portmap.ts';
import type { Resident } from './plan/resident.ts';
import { adoptedRecord, hostEnd, pluginIfb } from './record.ts';
import type { PodStore } from './store.ts';

export interface AdoptionOptions {
  readonly socket: RtSocket;
  readonly store: PodStore;
  readonly hostLocal: HostLocal;
  readonly bridge: string;
  readonly log: Log;
  readonly podNetwork: () => PodNetworkState;
  /** All attachments, those being made included. */
  readonly records: () => readonly PodRecord[];
  /** How long an address that host-local gave out to nobody that can be seen is kept free, in milliseconds. */
  readonly graceMs: number;
}

/**
 * Takes up the pods that stand and have no record: those that flannel's chain of plugins made, and our own after the
 * state directory was lost. Nothing of a pod is changed.
 */
export class Adoption {
  /** Looks, and takes up what there is. @throws TwillError when the kernel does not say */
  readonly look: () => Promise<void>;
  private readonly options: AdoptionOptions;
  private readonly rules: ForeignRules;
  /** True once the first look is done: before, an address may be in use that nobody knows of. */
  private done = false;
  /** Addresses that are not of our pods, and in use. */
  private others: ReadonlySet<string> = new Set();
  /** Addresses that pods answered for which cannot be looked into. */
  private readonly answering = new Set<string>();
  /** When a reservation was first seen whose address nobody has. */
  private readonly unused = new Map<string, number>();
  /** Reservations whose address nobody had all the time. */
  private expired: ReadonlySet<string> = new Set();
  private cleaned = false;
  /** False while there is a pod whose address cannot be seen: it may have any that host-local gave out. */
  private whole = false;

  constructor(options: AdoptionOptions) {
    this.options = options;
    this.rules = new ForeignRules(options.log);
    this.look = coalesce(() => this.lookOnce());
  }

  /** Addresses that must not be given out, though no record holds them. */
  held(): Iterable<string> {
    return this.answering.size === 0 ? this.others : new Set([...this.others, ...this.answering]);
  }

  /** Whether the addresses of all pods are known. */
  get isWhole(): boolean {
    return this.whole;
  }

  /** Asks for addresses on the bridge where somebody may have them who cannot be looked into; those in use are held. */
  async assureFree(bridge: number, addresses: readonly Address[]): Promise<boolean> {
    if (this.whole) return true;
    const answering = await askWhoAnswers(this.options.socket, bridge, addresses);
    for (const { text } of answering) {
      this.options.log.warn({ address: text }, 'a pod that cannot be looked into has this address');
      this.answering.add(text);
    }
    return answering.length === 0;
  }

  /** Whether host-local has given the address to a pod, as far as can be seen. Asked for the one that is chosen. */
  isReserved(address: string): boolean {
    return !this.expired.has(address) && this.options.hostLocal.holds(address);
  }

  /** Waits for the first look. @throws TwillError `unavailable` while the pods that stand cannot be looked at */
  async assertDone(): Promise<void> {
    if (this.done) return;
    try {
      await this.look();
    } catch (error) {
      throw new TwillError('unavailable', 'the pods that stand cannot be looked at yet', error);
    }
  }

  private async lookOnce(): Promise<void> {
    const { socket, log, records, hostLocal, store } = this.options;
    const devices = (): Set<string> => new Set(records().map(({ hostVeth }) => hostVeth));
    const before = devices();
    const { found, suspected, limits } = await readResidents(socket, before);
    // Pods came and went meanwhile: a device of ours without a record is one of those, once the first look is done.
    const known = devices();
    const residents = found.filter(
      ({ hostVeth, alias }) => !known.has(hostVeth) && !(this.done && alias?.startsWith('twill:') === true),
    );
    const reservations = hostLocal.reservations();
    const bridges = residents.length === 0 ? new Set<string>() : await this.ownBridges();
    const mappings = residents.some((one) => bridges.has(one.bridge)) ? await this.mappings() : [];
    const hostVethOf = (key: Parameters<typeof hostEnd>[0]): string => hostEnd(key).hostVeth;
    const seen = { residents, reservations, mappings, bridges, limits };
    for (const adopted of planAdoption({ ...seen, hostVethOf, pluginIfbOf: pluginIfb })) {
      const record = adoptedRecord(adopted);
      store.adopt(record);
      const { containerId, ifname, hostVeth } = record;
      log.warn({ containerId, ifname, addresses: addressesOf(record), device: hostVeth }, 'pod adopted');
    }
    this.hold(residents, suspected, bridges);
    this.done = true;
  }

  /** The agent's bridge, and one that has a gateway address of the node's: the old chain's may have another name. */
  private async ownBridges(): Promise<Set<string>> {
    const { socket, bridge, podNetwork } = this.options;
    const state = podNetwork();
    if (!state.ready) return new Set([bridge]);
    const gateways = state.network.families.map(({ gateway }) => gateway.text);
    const present = (await listAddresses(socket)).filter(({ address }) => gateways.includes(address.text));
    const holders = new Set(present.map(({ index }) => index));
    const links = await listLinks(socket);
    const found = links.filter(({ kind, index }) => kind === 'bridge' && holders.has(index));
    return new Set([bridge, ...found.map(({ name }) => name)]);
  }

  private async mappings(): Promise<FoundMapping[]> {
    try {
      return await this.rules.mappings();
    } catch (error) {
      this.options.log.warn({ error: describeError(error) }, 'host ports of pods that stand cannot be read');
      return [];
    }
  }

  private hold(
    residents: readonly Resident[],
    suspected: readonly string[],
    bridges: ReadonlySet<string>,
  ): void {
    const { records, hostLocal, graceMs } = this.options;
    const used = new Set(records().flatMap(addressesOf));
    const now = monotonicMs();
    const nobodys = hostLocal.reservations().filter(({ address }) => !used.has(address));
    const names = new Set(nobodys.map(({ address }) => address));
    for (const address of this.unused.keys()) if (!names.has(address)) this.unused.delete(address);
    for (const address of names) if (!this.unused.has(address)) this.unused.set(address, now);
    // One without an address has given it to somebody inside of it, a virtual machine say.
    const isPlain = ({ bridge, inside }: Resident): boolean =>
      inside !== undefined && (inside.addresses.length > 0 || !bridges.has(bridge));
    this.whole = residents.every(isPlain);
    const old = [...this.unused].filter(([, since]) => this.whole && now - since >= graceMs);
    this.expired = new Set(old.map(([address]) => address));
    if (this.whole) this.answering.clear();
    this.others = new Set([...strangersAddresses({ residents, bridges }), ...suspected]);
  }

  /**
   * Takes away what the old chain left of a pod that is deleted.
   * @param known false where no record is of it: rules, which take a while to read, are looked for where files tell of it
   * @returns whether files told of it
   * @throws TwillError
   */
  async release(
    { containerId, ifname }: Pick<PodRecord, 'containerId' | 'ifname'>,
    known: boolean,
  ): Promise<boolean> {
    const had = this.options.hostLocal.release({ containerId, ifname });
    if (known || had) await this.rules.remove((chain) => chain.containerId === containerId);
    return had;
  }

  /**
   * Removes rules of the portmap and bridge plugins for containers that are gone: those about addresses of this node's
   * subnets that none of the pods that stand has.
   */
  async removeDeadRules(): Promise<void> {
    const { podNetwork, records, log } = this.options;
    const state = podNetwork();
    if (!state.ready) return;
    const subnets = state.network.families.map(({ subnet }) => subnet);
    const isOurs = (text: string): boolean =>
      subnets.some((subnet) => prefixContains(subnet, parseAddress(text)));
    // A chain that was read before the look is of a pod whose device stood before it, or of none.
    const read = await this.rules.names();
    await this.look();
    const removed = await this.rules.remove(({ name, containerId, addresses }) => {
      const standing = records();
      if (!this.whole || !read.has(name) || standing.some((record) => record.containerId === containerId))
        return false;
      // Those of pods that stand and are not ours to look after are somebody's, too.
      const used = new Set([...this.others, ...standing.filter(isNameless).flatMap(addressesOf)]);
      return addresses.length > 0 && addresses.every((address) => isOurs(address) && !used.has(address));
    });
    for (const { name, containerId } of removed)
      log.warn({ chain: name, containerId }, 'removed rules of a container that is gone');
  }

  /** As {@link removeDeadRules}, until it has worked once. To be called when the pods that stand are known. */
  async removeDeadRulesOnce(): Promise<void> {
    if (this.cleaned || !this.options.podNetwork().ready) return;
    await this.removeDeadRules();
    this.cleaned = true;
  }
}
