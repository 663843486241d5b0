import type { Link } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { findInterfaceIndex } from '../kernel/netns.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { PodNetwork, PodNetworkState } from '../model/pod-network.ts';
import type { Log } from '../process/log.ts';
import { BridgeKeeper } from './kernel/bridge.ts';
import { cleanBridge } from './kernel/gateways.ts';
import type { BridgeOptions } from './plan/bridge.ts';
import type { PodRecord } from './plan/pod.ts';
import type { PodRepairs } from './repairs.ts';

export interface PodBridgesOptions {
  readonly socket: RtSocket;
  readonly log: Log;
  /** The agent's own, whose addresses are ours alone. */
  readonly bridge: string;
  readonly podNetwork: () => PodNetworkState;
  readonly records: () => readonly PodRecord[];
  readonly repairs: PodRepairs;
}

/** The bridges that pods are on: one, unless network configurations name others. */
export class PodBridges {
  private readonly options: PodBridgesOptions;
  /** The gateways that the agent's own bridge is known to have alone. */
  private clean: string | undefined;
  private refusal: string | undefined;
  private readonly keepers = new Map<string, BridgeKeeper>();
  /** Warnings that are in the log. */
  private readonly said = new Set<string>();

  constructor(options: PodBridgesOptions) {
    this.options = options;
  }

  /** The bridge of that name, made right if it was not known to be. */
  async get(name: string, network: PodNetwork, options?: BridgeOptions): Promise<Link> {
    const bridge = await this.standing(name, network, options);
    if (name !== this.options.bridge || options?.gateway === false) return bridge;
    const wanted = network.families
      .map(({ gateway, subnet }) => `${gateway.text}/${subnet.length}`)
      .join(' ');
    if (this.clean !== wanted) await this.cleanUp(network, wanted);
    if (this.refusal !== undefined) throw new TwillError('unavailable', this.refusal);
    return bridge;
  }

  /** Somebody may have put another bridge in its place a moment ago, and its end has not been heard of yet. */
  private async standing(name: string, network: PodNetwork, options?: BridgeOptions): Promise<Link> {
    const bridge = await this.keeper(name).get(network, options);
    if (findInterfaceIndex(name) === bridge.index) return bridge;
    this.forget(name);
    return await this.keeper(name).get(network, options);
  }

  /** Why no pod can be put on the agent's own bridge, as far as it is known. */
  refused(): string | undefined {
    return this.refusal;
  }

  private async cleanUp(network: PodNetwork, wanted: string): Promise<void> {
    const { socket, bridge, records, log } = this.options;
    const own = records().filter((record) => record.bridge === bridge);
    // A network may leave the bridge's addresses to somebody else (isGateway false): then they are his.
    const isOurs = own.every(({ gateway }) => gateway !== false);
    this.refusal = isOurs ? await cleanBridge(socket, bridge, network, own, log) : undefined;
    this.clean = this.refusal === undefined ? wanted : undefined;
  }

  /** The next call looks at the kernel. */
  forget(name: string): void {
    this.clean = undefined;
    this.keepers.get(name)?.forget();
  }

  /** A bridge of pods that is gone. */
  missing(): string | undefined {
    return this.names().find((name) => findInterfaceIndex(name) === undefined);
  }

  /** To be told of every device that somebody else has deleted. */
  deviceGone(name: string): void {
    if (!this.names().includes(name)) return;
    const { log } = this.options;
    log.warn({ bridge: name }, 'somebody has deleted the bridge of the pods');
    this.repair().catch((error: unknown) =>
      log.warn({ bridge: name, error: describeError(error) }, 'bridge not repaired, will retry'),
    );
  }

  /** What makes pods slow to come up, a sentence each. */
  warnings(): string[] {
    return this.names()
      .filter((name) => this.keepers.get(name)?.runsStp === true)
      .map(
        (name) =>
          `bridge ${name} runs the spanning tree protocol: a new pod reaches nobody for twice its forward delay, 30 s: ip link set ${name} type bridge stp_state 0`,
      );
  }

  /** Makes the bridges as they should be, and the pods' devices their ports again. */
  async repair(): Promise<void> {
    const { podNetwork, records, log, repairs } = this.options;
    const state = podNetwork();
    if (!state.ready) return;
    for (const name of this.names()) {
      const keeper = this.keeper(name);
      keeper.forget();
      const own = records().filter(({ bridge }) => bridge === name);
      const ports = await keeper.adoptPorts(state.network, own);
      repairs.pods += ports;
      if (ports > 0) log.info({ bridge: name, ports }, 'pods put back on the bridge');
      if (name === this.options.bridge) await this.cleanUp(state.network, '');
    }
    for (const warning of this.warnings()) {
      if (!this.said.has(warning)) log.warn(warning);
      this.said.add(warning);
    }
  }

  private names(): string[] {
    return [...new Set(this.options.records().map(({ bridge }) => bridge))];
  }

  private keeper(name: string): BridgeKeeper {
    let keeper = this.keepers.get(name);
    if (keeper === undefined) {
      keeper = new BridgeKeeper(this.options.socket, name, this.options.repairs);
      this.keepers.set(name, keeper);
    }
    return keeper;
  }
}
