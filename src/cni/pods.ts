import { createHash } from 'node:crypto';
import { type Stats, statSync } from 'node:fs';
import type { Log } from '../config/log.ts';
import { planPod } from '../desired/pod-plan.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { BridgeKeeper } from '../kernel/pod-bridge.ts';
import { wirePod } from '../kernel/pod-link.ts';
import { LinkReaper } from '../kernel/pod-reaper.ts';
import { macFromBytes } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { PodKey, PodRecord } from '../model/pod.ts';
import type { PodNetwork, PodNetworkState } from '../model/pod-network.ts';
import type { CniRequest } from './call.ts';
import { Ipam } from './ipam.ts';
import { KeyedLock } from './keyed-lock.ts';
import { addResult } from './result.ts';
import { PodStore, podKeyText } from './store.ts';

export interface PodManagerOptions {
  readonly stateDir: string;
  readonly bridge: string;
  readonly log: Log;
  readonly podNetwork: () => PodNetworkState;
  /** A socket of the namespace the pods' host-side veths are in. */
  readonly socket: RtSocket;
}

function keyOf(request: CniRequest): PodKey {
  return { network: request.config.name, containerId: request.containerId, ifname: request.ifname };
}

/** The host-side veth's name and MAC: the same for an attachment whenever it is asked for. */
export function hostEnd(key: PodKey): { readonly hostVeth: string; readonly hostMac: string } {
  const hash = createHash('sha256').update(podKeyText(key)).digest();
  const hostMac = macFromBytes(Uint8Array.of(0x0e, ...hash.subarray(8, 13)));
  return { hostVeth: `veth${hash.toString('hex').slice(0, 11)}`, hostMac };
}

/** @throws TwillError `not-found` when there is no such namespace, `invalid` when it is none or the agent's own */
function checkNetns(path: string): void {
  const own = statSync('/proc/self/ns/net');
  let given: Stats;
  try {
    given = statSync(path);
  } catch (cause) {
    throw new TwillError('not-found', `CNI_NETNS: the network namespace '${path}' does not exist`, cause);
  }
  if (given.dev !== own.dev)
    throw new TwillError('invalid', `CNI_NETNS: '${path}' is not a network namespace`);
  if (given.ino === own.ino)
    throw new TwillError('invalid', `CNI_NETNS: '${path}' is the node's own network namespace`);
}

/** Carries out the CNI commands on this node: addresses, records and the kernel. */
export class PodManager {
  readonly store: PodStore;
  private readonly options: PodManagerOptions;
  private readonly ipam: Ipam;
  private readonly reaper: LinkReaper;
  private readonly bridge: BridgeKeeper;
  private readonly locks = new KeyedLock();

  constructor(options: PodManagerOptions) {
    this.options = options;
    this.store = new PodStore(options.stateDir, options.log);
    this.ipam = new Ipam(this.store);
    this.reaper = new LinkReaper(options.socket);
    this.bridge = new BridgeKeeper(options.socket, options.bridge);
  }

  /**
   * ADD. What was begun is undone when it fails, and when `abandoned` says that nobody waits for the answer any more.
   * @throws TwillError `unavailable` while the node has no subnet, `exists` when the attachment exists, `exhausted`
   */
  add(request: CniRequest, abandoned: () => boolean): Promise<object> {
    const key = keyOf(request);
    return this.locks.run(podKeyText(key), async () => {
      if (this.store.get(key) !== undefined) {
        const { containerId, ifname } = key;
        throw new TwillError('exists', `container ${containerId} has ${ifname} already: DEL must come first`);
      }
      checkNetns(request.netns);
      const network = this.network();
      const addresses = this.ipam.reserve(network);
      try {
        return await this.wire(request, key, network, addresses, abandoned);
      } finally {
        this.ipam.release(addresses.map(({ text }) => text));
      }
    });
  }

  private async wire(
    request: CniRequest,
    key: PodKey,
    network: PodNetwork,
    addresses: Parameters<typeof planPod>[1],
    abandoned: () => boolean,
  ): Promise<object> {
    const { socket, bridge: bridgeName } = this.options;
    const { netns, ifname, containerId, config } = request;
    const plan = planPod(network, addresses, { ifname, ...hostEnd(key) });
    const bridge = await this.bridge.get(network);
    try {
      const label = `${containerId}/${ifname}`;
      await wirePod(socket, plan, { netns, bridgeIndex: bridge.index, label });
      if (abandoned()) throw new TwillError('unavailable', 'the caller went away during ADD');
      this.store.put({
        ...key,
        netns,
        addresses: plan.addresses.map(({ address, subnet, gateway }) => ({
          address: `${address.text}/${subnet.length}`,
          gateway: gateway.text,
        })),
        mac: plan.mac,
        hostVeth: plan.hostVeth,
        createdAt: new Date().toISOString(),
      });
    } catch (error) {
      this.bridge.forget(); // it may be why: the next call looks
      await this.reaper.delete(plan.hostVeth);
      throw error;
    }
    return addResult(config, { plan, netns, bridge: bridgeName, bridgeMac: bridge.mac });
  }

  /** DEL. What is not there needs no deleting; the addresses are free once the device is gone. */
  delete(request: CniRequest): Promise<void> {
    const key = keyOf(request);
    return this.locks.run(podKeyText(key), async () => {
      const record = this.store.get(key);
      const { queuedAt } = request;
      // The same attachment was added again after this deletion had been queued.
      if (record !== undefined && queuedAt !== undefined && Date.parse(record.createdAt) > queuedAt) return;
      await this.forget(key, record);
    });
  }

  private async forget(key: PodKey, record: PodRecord | undefined): Promise<void> {
    await this.reaper.delete(record?.hostVeth ?? hostEnd(key).hostVeth);
    if (record !== undefined) this.store.remove(record);
  }

  /** STATUS. @throws TwillError `unavailable` or `exhausted` when ADD could not be served now */
  status(): void {
    const network = this.network();
    const addresses = this.ipam.reserve(network);
    this.ipam.release(addresses.map(({ text }) => text));
  }

  private network(): PodNetwork {
    const state = this.options.podNetwork();
    if (!state.ready)
      throw new TwillError('unavailable', `the Twill agent has no pod subnet yet: ${state.reason}`);
    return state.network;
  }
}
