import { listAddresses } from '../kernel/netlink/addresses.ts';
import { listLinks } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import type { Address } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { PodNetworkState } from '../model/pod-network.ts';
import { monotonicMs } from '../process/clock.ts';
import { coalesce } from '../process/coalesce.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import type { HostLocal } from './hostlocal.ts';
import { askWhoAnswers } from './kernel/answers.ts';
import type { ForeignRules } from './kernel/portmap.ts';
import { readResidents } from './kernel/residents.ts';
import { foundHostPorts, planAdoption, strangersAddresses } from './plan/adoption.ts';
import { aliasPrefix } from './plan/alias.ts';
import { addressesOf, type PodRecord } from './plan/pod.ts';
import type { ReadMappings } from './plan/portmap.ts';
import type { Resident } from './plan/resident.ts';
import { adoptedRecord, hostEnd, pluginIfb } from './record.ts';
import type { PodStore } from './store.ts';

/** Looks at rules that cannot be read, one or two of them in a quarter of a minute: no new pod gets host ports meanwhile. */
const PATIENCE = 20;

export interface AdoptionOptions {
  readonly socket: RtSocket;
  readonly store: PodStore;
  readonly hostLocal: HostLocal;
  readonly rules: ForeignRules;
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
  private readonly limiter = new LogLimiter();
  /** How many looks at rules may fail. */
  private patience = PATIENCE;
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
  /** False while there is a pod whose address cannot be seen: it may have any that host-local gave out. */
  private whole = false;

  constructor(options: AdoptionOptions) {
    this.options = options;
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
      ({ hostVeth, alias }) =>
        !known.has(hostVeth) && !(this.done && alias?.startsWith(aliasPrefix) === true),
    );
    const reservations = hostLocal.reservations();
    const bridges = residents.length === 0 ? new Set<string>() : await this.ownBridges();
    const unread = store.list().filter(({ hostPortsUnread }) => hostPortsUnread === true);
    const isOurs = ({ bridge, alias }: Resident): boolean =>
      bridges.has(bridge) || alias?.startsWith(aliasPrefix) === true;
    const some = unread.length > 0 || residents.some(isOurs);
    const mappings = some ? await this.mappings() : { found: [], isWhole: true };
    this.complete(unread, mappings);
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

  /** What cannot be read now the next looks read; in the end what there is counts. */
  private async mappings(): Promise<ReadMappings> {
    const { rules, log } = this.options;
    const read = await rules.mappings().catch((error: unknown): ReadMappings => {
      const reason = describeError(error);
      if (this.limiter.allow(reason) !== undefined)
        log.warn({ error: reason }, 'host ports of pods that stand cannot be read, will retry');
      return { found: [], isWhole: false };
    });
    return read.isWhole || --this.patience > 0 ? read : { ...read, isWhole: true };
  }

  /** Adds to records what could not be read when these pods were adopted. */
  private complete(unread: readonly PodRecord[], mappings: ReadMappings): void {
    const { store, log } = this.options;
    for (const record of mappings.isWhole ? unread : []) {
      if (store.get(record) !== record) continue; // deleted meanwhile
      const { hostPortsUnread: _, ...known } = record;
      const found = foundHostPorts(addressesOf(record), mappings);
      store.adopt({ ...known, ...found });
      const { containerId, ifname } = record;
      log.info(
        { containerId, ifname, hostPorts: found.portMappings.length },
        'host ports of an adopted pod read',
      );
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
}
