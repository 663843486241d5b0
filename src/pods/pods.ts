import { DirectSocket } from '../kernel/netlink/direct.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { closeNetns, type Netns } from '../kernel/netns.ts';
import type { Address } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { PodNetwork, PodNetworkState } from '../model/pod-network.ts';
import type { Log } from '../process/log.ts';
import { Adoption } from './adoption.ts';
import { PodBridges } from './bridges.ts';
import type { CniRequest } from './cni/call.ts';
import { checkAttachment } from './cni/check.ts';
import { addResult } from './cni/result.ts';
import { collectGarbage } from './garbage.ts';
import { HostLocal } from './hostlocal.ts';
import { Ipam } from './ipam.ts';
import { shapePod } from './kernel/bandwidth.ts';
import { forgetStaleFlows } from './kernel/flows.ts';
import { type HostPortOptions, HostPorts } from './kernel/hostports.ts';
import { unwirePod, wirePod } from './kernel/link.ts';
import { Localnet, type LoopbackGuard } from './kernel/localnet.ts';
import { namespaceIdAt, openPodNamespace } from './kernel/namespace.ts';
import { ForeignRules } from './kernel/portmap.ts';
import { LinkReaper } from './kernel/reaper.ts';
import { settleAddresses } from './kernel/settle.ts';
import { SpoofGuard } from './kernel/spoof.ts';
import { KeyedLock } from './keyed-lock.ts';
import { isNameless } from './plan/adoption.ts';
import { aliasOf } from './plan/alias.ts';
import { ifbName } from './plan/bandwidth.ts';
import type { PodKey, PodRecord } from './plan/pod.ts';
import { planRanges } from './plan/ranges.ts';
import { type PodPlan, planPod } from './plan/wiring.ts';
import { hostEnd, keyOf, makeRecord } from './record.ts';
import { Remains } from './remains.ts';
import { PodRepairs } from './repairs.ts';
import { refuseOtherSubnetFile, requestedAddresses, requestedDns, requestedMac } from './request.ts';
import { PodStore, podKeyText } from './store.ts';

export interface PodManagerOptions extends Pick<HostPortOptions, 'rulesTool' | 'takesConditions'> {
  readonly stateDir: string;
  /** The bridge of pods whose configuration names none. */
  readonly bridge: string;
  readonly log: Log;
  readonly podNetwork: () => PodNetworkState;
  /** Resolves when the rules for the pods' traffic to the outside are as the records want them. */
  readonly trafficReady: () => Promise<void>;
  /** flannel's subnet file, as the agent writes it. */
  readonly subnetFile: string;
  /** What must stand before the kernel routes to loopback addresses. */
  readonly loopbackGuard: LoopbackGuard;
  /** Where plugins of other chains keep what they gave out: normally /var/lib/cni. */
  readonly cniDataDir: string;
  /** How long an address that nobody is seen to have is kept for a pod of another chain, in milliseconds. */
  readonly graceMs: number;
  /** A socket of the namespace the pods' host-side veths are in. */
  readonly socket: RtSocket;
}

/** @throws TwillError `unavailable` when nobody waits for the answer any more */
async function assertAwaited(abandoned: () => boolean): Promise<void> {
  // The work on the kernel lets nothing else run: turns of the event loop show whether the caller has gone. The first may
  // end before sockets are looked at again, and newer versions of Node see the end of one only at a look after its data.
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
  if (abandoned()) throw new TwillError('unavailable', 'the caller went away during ADD');
}

/** Carries out the CNI commands on this node: addresses, records and the kernel. */
export class PodManager {
  readonly store: PodStore;
  readonly repairs = new PodRepairs();
  readonly hostPorts: HostPorts;
  readonly spoofGuard: SpoofGuard;
  private readonly options: PodManagerOptions;
  private readonly ipam: Ipam;
  readonly adoption: Adoption;
  readonly remains: Remains;
  readonly bridges: PodBridges;
  private readonly reaper = new LinkReaper((name) => this.bridges.deviceGone(name));
  private readonly direct = new DirectSocket();
  private readonly locks = new KeyedLock();
  /** Attachments whose ADD is under way, with their keys as text. */
  private readonly adding = new Map<string, PodRecord>();

  constructor(options: PodManagerOptions) {
    this.options = options;
    this.store = new PodStore(options.stateDir, options.log);
    const { socket, log, podNetwork, bridge, graceMs } = options;
    const hostLocal = new HostLocal(options.cniDataDir);
    const rules = new ForeignRules(log);
    const records = (): PodRecord[] => this.records();
    const { store } = this;
    const chain = { hostLocal, rules, log, podNetwork, records };
    this.adoption = new Adoption({ ...chain, socket, store, bridge, graceMs });
    const deleteDevice = (name: string): Promise<void> => this.reaper.delete(name);
    this.remains = new Remains({ ...chain, adoption: this.adoption, deleteDevice });
    this.ipam = new Ipam(store, this.adoption);
    const { repairs } = this;
    const stand = (): PodRecord[] => this.store.list();
    this.bridges = new PodBridges({ socket, log, podNetwork, bridge, records: stand, repairs });
    const localnet = new Localnet(options.stateDir, options.loopbackGuard);
    const { rulesTool, takesConditions } = options;
    this.hostPorts = new HostPorts({ records, localnet, log, rulesTool, takesConditions, repairs });
    this.spoofGuard = new SpoofGuard(records, log, repairs);
  }

  /** Deletes the devices that an attachment has on the node's side, as far as they are there. */
  private async deleteDevices(hostVeth: string, ifb = ifbName(hostVeth)): Promise<void> {
    await Promise.all([hostVeth, ifb].map((device) => this.reaper.delete(device)));
  }

  /**
   * Removes what ADDs made that died half-way: exactly what each wrote down before it began, so nothing else can be taken
   * for it. To be called before calls are served.
   */
  async removeUnfinished(): Promise<void> {
    const { log } = this.options;
    const remove = async (hostVeth: string): Promise<void> => {
      log.warn({ device: hostVeth }, 'removing what an ADD left');
      try {
        await this.deleteDevices(hostVeth);
        this.store.removeUnfinished(hostVeth);
      } catch (error) {
        log.error(
          { device: hostVeth, error: describeError(error) },
          'not removed, the next start tries again',
        );
      }
    };
    await Promise.all(this.store.unfinished().map(remove));
  }

  close(): void {
    this.hostPorts.close();
    this.reaper.close();
    this.direct.close();
  }

  /** All attachments that need something of the node: those that stand and those being made. */
  records(): PodRecord[] {
    return [...this.store.list(), ...this.adding.values()];
  }

  /**
   * ADD. What was begun is undone when it fails, and when `abandoned` says that nobody waits for the answer any more.
   * @throws TwillError `unavailable` while the node has no subnet, `exists` when the attachment exists, `exhausted`
   */
  add(request: CniRequest, abandoned: () => boolean): Promise<object> {
    const key = keyOf(request);
    return this.locks.run(podKeyText(key), async () => {
      // It may have waited for its turn behind others of its key.
      await assertAwaited(abandoned);
      await this.adoption.assertDone();
      if (this.find(key) !== undefined) {
        const { containerId, ifname } = key;
        throw new TwillError('exists', `container ${containerId} has ${ifname} already: DEL must come first`);
      }
      const netns = openPodNamespace(request.netns);
      try {
        return await this.attach(request, netns, abandoned);
      } finally {
        closeNetns(netns);
      }
    });
  }

  private async attach(request: CniRequest, netns: Netns, abandoned: () => boolean): Promise<object> {
    const key = keyOf(request);
    const { config } = request;
    refuseOtherSubnetFile(config, this.options.subnetFile);
    const network = this.network();
    const choices = { ...config, mac: requestedMac(request) };
    const dns = requestedDns(config);
    const wanted = config.containerInterface ? network : { ...network, families: [] };
    const ranges = planRanges(wanted, config.ranges);
    const { bridge: name = this.options.bridge } = config;
    // Somebody may answer there whom nobody can look into: asking takes the bridge.
    const { index } = this.adoption.isWhole
      ? { index: 0 }
      : await this.bridges.get(name, network, config.bridgeOptions);
    const addresses = await this.reserve(index, () =>
      this.ipam.reserve(wanted, requestedAddresses(request), ranges),
    );
    try {
      const plan = planPod(network, addresses, { ifname: key.ifname, ...hostEnd(key) }, choices);
      return await this.wire({ ...request, config: { ...config, dns } }, { network, plan, netns }, abandoned);
    } finally {
      this.adding.delete(podKeyText(key));
      this.ipam.release(addresses.map(({ text }) => text));
    }
  }

  /** Addresses for which nobody on the bridge answers, where there is somebody who cannot be looked into. */
  private async reserve(bridge: number, choose: () => Address[]): Promise<Address[]> {
    for (;;) {
      const addresses = choose();
      const free = await this.adoption.assureFree(bridge, addresses).catch((error: unknown) => {
        this.ipam.release(addresses.map(({ text }) => text));
        throw error;
      });
      if (free) return addresses;
      this.ipam.release(addresses.map(({ text }) => text));
    }
  }

  private async wire(
    request: CniRequest,
    { network, plan, netns }: { network: PodNetwork; plan: PodPlan; netns: Netns },
    abandoned: () => boolean,
  ): Promise<object> {
    const { bridge: defaultBridge } = this.options;
    const { config } = request;
    const name = config.bridge ?? defaultBridge;
    const record = makeRecord(request, netns, plan, { bridge: name, order: this.store.nextOrder() });
    await this.hostPorts.assertConditions(record);
    const bridge = await this.bridges.get(name, network, config.bridgeOptions);
    try {
      this.store.begin(record);
      wirePod(this.direct, plan, { netns, bridgeIndex: bridge.index, alias: aliasOf(record) });
      this.adding.set(podKeyText(record), record);
      await this.applyFeatures(record);
      if (plan.detectDuplicates) await settleAddresses(netns, plan);
      await assertAwaited(abandoned);
      this.store.commit(record);
    } catch (error) {
      this.bridges.forget(name); // it may be why: the next call looks
      this.adding.delete(podKeyText(record));
      await this.remove(record);
      throw error;
    }
    return addResult(config, { plan, netns: netns.path, bridge: name, bridgeMac: bridge.mac });
  }

  private async applyFeatures(record: PodRecord): Promise<void> {
    if (record.bandwidth !== undefined) await shapePod(this.options.socket, record);
    if (record.spoofCheck === true) await this.spoofGuard.sync();
    await this.options.trafficReady();
    if (record.portMappings.length === 0) return;
    await this.hostPorts.sync();
    await this.remains.giveWay(record);
    await forgetStaleFlows(this.options.socket, record, true, this.options.log);
  }

  /** DEL. What is not there needs no deleting; the addresses are free once the device is gone. */
  delete(request: CniRequest): Promise<void> {
    const key = keyOf(request);
    return this.locks.run(podKeyText(key), async () => {
      const record = this.findFor(request);
      if (record !== undefined) return await this.remove(record, key);
      await this.deleteDevices(hostEnd(key).hostVeth);
      // One of another chain that was gone before anybody could look at it, or is not as that chain made it.
      if (await this.remains.release(key, undefined)) this.unwire(request);
    });
  }

  /**
   * Takes away everything an attachment has; what fails does not stop the rest.
   * @param key by which it is called: it may have been found without a container, or under another network's name
   */
  private async remove(record: PodRecord, key: PodKey = record): Promise<void> {
    await this.deleteDevices(record.hostVeth, record.ifb);
    if (record.adopted === true) await this.remains.release(key, record);
    this.store.remove(record);
    if (record.portMappings.length === 0 && record.spoofCheck !== true) return;
    try {
      if (record.spoofCheck === true) await this.spoofGuard.forget();
      if (record.portMappings.length === 0) return;
      await this.hostPorts.sync();
      await forgetStaleFlows(this.options.socket, record, false, this.options.log);
    } catch (error) {
      // The rules are repaired later; a pod must not stay Terminating for them.
      const { containerId } = record;
      this.options.log.warn({ containerId, error: describeError(error) }, 'rules not removed yet');
    }
  }

  /** Deletes the interface from within, as the plugin that made it would. */
  private unwire({ netns, containerId, ifname }: CniRequest): void {
    try {
      unwirePod(netns, ifname);
    } catch (error) {
      this.options.log.warn({ containerId, error: describeError(error) }, 'its interface is not removed');
    }
  }

  private find(key: PodKey): PodRecord | undefined {
    return this.store.get(key) ?? this.store.getAdopted(key);
  }

  /** The record that a call is about: that of a pod of which no container is known, by the namespace. */
  private findFor(request: CniRequest): PodRecord | undefined {
    const found = this.find(keyOf(request));
    if (found !== undefined || request.netns === '') return found;
    const nameless = this.store.list().filter(isNameless);
    const id = nameless.length === 0 ? undefined : namespaceIdAt(request.netns);
    return nameless.find(
      ({ netnsId, ifname }) => id !== undefined && netnsId === id && ifname === request.ifname,
    );
  }

  /** Removes an attachment for which nobody will call DEL any more. */
  forget(record: PodRecord): Promise<void> {
    return this.locks.run(podKeyText(record), async () => {
      if (this.store.get(record) === record) await this.remove(record);
    });
  }

  /**
   * CHECK.
   * @throws TwillError `not-found` for an attachment that does not exist, `kernel` naming what is not as it should be
   */
  check(request: CniRequest): Promise<void> {
    const { socket } = this.options;
    const { hostPorts, spoofGuard } = this;
    return checkAttachment(request, this.findFor(request), { socket, hostPorts, spoofGuard });
  }

  /** GC. @throws TwillError `invalid` when the list of valid attachments is missing, `kernel` naming what is left */
  collectGarbage(request: CniRequest): Promise<void> {
    return collectGarbage(request, {
      records: this.store.list(),
      forget: (record) => this.forget(record),
      removeDeadRules: () => this.remains.removeDeadRules(),
      log: this.options.log,
    });
  }

  /**
   * STATUS.
   * @throws TwillError `unavailable` or `exhausted` when ADD could not be served now, `kernel` when pods that stand are
   *   cut off
   */
  status(): void {
    const bridge = this.bridges.missing();
    if (bridge !== undefined)
      throw new TwillError('kernel', `the pods' bridge ${bridge} is gone; it is made again within seconds`);
    const refusal = this.bridges.refused();
    if (refusal !== undefined) throw new TwillError('unavailable', refusal);
    this.ipam.assertFree(this.network());
  }

  private network(): PodNetwork {
    const state = this.options.podNetwork();
    if (!state.ready)
      throw new TwillError('unavailable', `the Twill agent has no pod subnet yet: ${state.reason}`);
    return state.network;
  }
}
