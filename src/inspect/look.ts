import type { IptablesVariant } from '../kernel/iptables.ts';
import { lookUpRoutes, type RouteAnswer } from '../kernel/netlink/route-lookup.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import { type Address, type Family, families } from '../model/address.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import type { ServiceRow } from '../services/plan/row.ts';
import { type NodeView, type OverlayView, readNode, readOverlay } from './overlay.ts';
import type { AgentState, ProxyState } from './plan/state.ts';
import { type KnownPods, knownPods } from './pod-records.ts';
import { podTroubles } from './pod-troubles.ts';
import { saveAll } from './saved-rules.ts';
import { listServices } from './service-list.ts';
import { agentState, type Known, proxyState } from './states.ts';

/** Whom a look asks. */
export interface Sockets {
  /** Where the agent listens. */
  readonly socket: string;
  /** Where the proxy listens. */
  readonly proxySocket: string;
}

/** The kernel's ways to addresses, by their texts; undefined where it has none. */
export type Ways = ReadonlyMap<string, RouteAnswer | undefined>;

/**
 * One look at the node. What several answers are made of is asked of agent, proxy and kernel when the first one wants it,
 * and once: with thousands of nodes and Services the asking is what takes the time.
 */
export class Look implements Sockets {
  readonly socket: string;
  readonly proxySocket: string;
  readonly kernel = new RtSocket();
  private readonly made = new Map<string, Promise<unknown>>();
  private readonly ways = new Map<string, RouteAnswer | undefined>();

  constructor({ socket, proxySocket }: Sockets) {
    this.socket = socket;
    this.proxySocket = proxySocket;
  }

  agent(): Promise<Known<AgentState>> {
    return this.once('agent', () => agentState(this.socket));
  }

  proxy(): Promise<Known<ProxyState>> {
    return this.once('proxy', () => proxyState(this.proxySocket));
  }

  /** The node's devices and addresses. */
  node(): Promise<NodeView> {
    return this.once('node', () => readNode(this.kernel));
  }

  /** What the kernel has for the other nodes; undefined where it is not known what it should have. */
  overlay(): Promise<OverlayView | undefined> {
    return this.once('overlay', async () => {
      const { state } = await this.agent();
      return state && (await readOverlay(this.kernel, state, await this.node()));
    });
  }

  /** @throws TwillError `unavailable` where neither the agent nor its files say anything */
  pods(): Promise<KnownPods> {
    return this.once('pods', async () => {
      // An agent that is known not to answer is not waited for once more; one of another version may know its pods.
      const agent = this.made.has('agent') ? await this.agent().catch(() => undefined) : undefined;
      return await knownPods(this.socket, agent?.why);
    });
  }

  /** What is wrong with pods, of those that have something. @throws TwillError as {@link pods} */
  podTroubles(): Promise<ReadonlyMap<PodRecord, readonly string[]>> {
    return this.once('troubles', async () => podTroubles(await this.node(), (await this.pods()).pods));
  }

  /** @throws TwillError where neither the proxy nor its source says anything */
  services(): Promise<readonly ServiceRow[]> {
    return this.once('services', async () => listServices(await this.proxy(), this.proxySocket));
  }

  /** What iptables-save prints; undefined where it does not work. */
  savedRules(family: Family, variant: IptablesVariant): Promise<string | undefined> {
    return this.once(`saved ${family.name} ${variant}`, () => saveAll(family, variant));
  }

  /** How the kernel would send to the addresses. */
  async waysTo(addresses: readonly Address[]): Promise<Ways> {
    for (const family of families) {
      const asked = addresses.filter((address) => address.family === family && !this.ways.has(address.text));
      const answers = asked.length === 0 ? [] : await lookUpRoutes(this.kernel, asked);
      asked.forEach(({ text }, index) => {
        this.ways.set(text, answers[index]);
      });
    }
    return this.ways;
  }

  close(): void {
    this.kernel.close();
  }

  private once<T>(name: string, work: () => Promise<T>): Promise<T> {
    const made = (this.made.get(name) as Promise<T> | undefined) ?? work();
    this.made.set(name, made);
    return made;
  }
}

/** Looks, and lets go of what that has opened. */
export async function looking<T>(sockets: Sockets, work: (look: Look) => Promise<T>): Promise<T> {
  const look = new Look(sockets);
  try {
    return await work(look);
  } finally {
    look.close();
  }
}
