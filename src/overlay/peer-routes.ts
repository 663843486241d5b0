import { lookUpRoutes, type RouteAnswer } from '../kernel/netlink/route-lookup.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import type { Lease } from '../leases/plan/lease.ts';
import type { Backend } from '../leases/plan/network-config.ts';
import { type Address, type Family, families, type Prefix, prefixContains } from '../model/address.ts';
import type { Underlay } from './plan/device.ts';
import { followRoutes, type PeerRoute } from './plan/egress.ts';

/** Networks of nodes of which one is asked for where not every single node matters, in bits. */
const SAMPLE_BITS = { ipv4: 8n, ipv6: 64n } as const;
const SAMPLES = 256;

const print = (answer: RouteAnswer | undefined): string =>
  answer === undefined ? '' : `${answer.device} ${answer.gatewayed} ${answer.local} ${answer.mtu}`;

/** True where each node's way decides about its entries. */
export function needsEach(backend: Backend): boolean {
  return backend.type === 'host-gw' || (backend.type === 'vxlan' && backend.directRouting);
}

export interface PeerRoutesInput {
  readonly leases: ReadonlyMap<string, Lease>;
  /** False where a lease does not hold its public IP: the way there says nothing about the nodes. */
  readonly plausible: (lease: Lease, publicIp: Address) => boolean;
  readonly backend: Backend;
  readonly underlay: Underlay;
  /** Interface index of the VRF that the underlay is in. */
  readonly domain: number | undefined;
  /** Indexes of our own tunnels: what goes through them says nothing about the underlay. */
  readonly tunnels: ReadonlySet<number>;
}

/**
 * How the kernel gets to the other nodes: it is asked, since neither addresses nor a list of routes says what rules,
 * several next hops and other tables make of it.
 */
export class PeerRoutes {
  /** Changes whenever the answer for a node is another than before. */
  version = 0;
  private readonly socket: RtSocket;
  private asked: readonly Address[] = [];
  private answers = new Map<string, RouteAnswer | undefined>();
  /** Nodes that somebody asked about before the kernel was asked: their leases came in the midst of a look. */
  private readonly missed = new Set<string>();

  constructor(socket: RtSocket) {
    this.socket = socket;
  }

  /**
   * Asks for the nodes that it has not asked for, and for all again if `full`. For host-gw and DirectRouting each counts;
   * else one of each network.
   * @returns whether what is known has changed
   */
  async look(input: PeerRoutesInput, full: boolean): Promise<boolean> {
    const wanted = this.wanted(input);
    this.asked = wanted;
    const known = full ? new Map<string, RouteAnswer | undefined>() : this.answers;
    const before = this.answers;
    let changed = false;
    for (const family of families) {
      const source = input.underlay.addresses.get(family.name);
      if (source === undefined) continue;
      const asked = wanted.filter((address) => address.family === family && !known.has(address.text));
      if (asked.length === 0) continue;
      const answers = await lookUpRoutes(this.socket, asked, { source, device: input.domain });
      for (const [index, { text }] of asked.entries()) {
        const answer = answers[index];
        const isNew = !before.has(text);
        const differs = !isNew && print(before.get(text)) !== print(answer);
        // What was made of a node while nothing was known of it holds no longer either.
        if (differs || this.missed.delete(text)) this.version++;
        changed ||= isNew || differs;
        known.set(text, answer);
      }
    }
    changed ||= known.size !== before.size;
    this.answers = known;
    if (full) this.forgetMissed(input.leases);
    return changed;
  }

  private forgetMissed(leases: PeerRoutesInput['leases']): void {
    if (this.missed.size === 0) return;
    const living = new Set<string>();
    for (const { families } of leases.values())
      for (const { publicIp } of families) living.add(publicIp.text);
    for (const text of this.missed) if (!living.has(text)) this.missed.delete(text);
  }

  private wanted({ leases, backend, plausible }: PeerRoutesInput): Address[] {
    const each = needsEach(backend);
    const found = new Map<string, Address>();
    for (const lease of leases.values()) {
      for (const { publicIp } of lease.families) {
        const key = each
          ? publicIp.text
          : `${publicIp.family.name} ${publicIp.value >> SAMPLE_BITS[publicIp.family.name]}`;
        if (!found.has(key) && plausible(lease, publicIp)) found.set(key, publicIp);
      }
      if (!each && found.size >= SAMPLES) break;
    }
    return [...found.values()];
  }

  /** Some of the nodes that were asked for. */
  sample(family: Family, most: number): Address[] {
    return this.asked.filter((address) => address.family === family).slice(0, most);
  }

  /** The device on whose link the node is; undefined where a router is between. */
  onLink(publicIp: Address): number | undefined {
    const answer = this.answers.get(publicIp.text);
    if (answer === undefined && !this.answers.has(publicIp.text)) this.missed.add(publicIp.text);
    return answer === undefined || answer.gatewayed || answer.local ? undefined : answer.device;
  }

  /** True when a node that was asked for is in the network. */
  within(network: Prefix): boolean {
    return this.asked.some((address) => prefixContains(network, address));
  }

  /** Indexes of the devices by which packets to the nodes leave. */
  devices(): ReadonlySet<number> {
    return new Set(
      [...this.answers.values()].flatMap((answer) => (answer?.local === false ? answer.device : [])),
    );
  }

  /** The underlay with what follows from the routes to the nodes. */
  follow(
    {
      underlay,
      tunnels,
      before,
    }: Pick<PeerRoutesInput, 'underlay' | 'tunnels'> & { before: Pick<Underlay, 'carries'> | undefined },
    links: readonly { readonly index: number; readonly mtu: number }[],
  ): Underlay {
    const routes: PeerRoute[] = [];
    for (const [text, answer] of this.answers) {
      if (answer === undefined || answer.local || tunnels.has(answer.device)) continue;
      const family: Family['name'] = text.includes(':') ? 'ipv6' : 'ipv4';
      const device = links.find(({ index }) => index === answer.device);
      if (device !== undefined)
        routes.push({ family, device: answer.device, mtu: Math.min(device.mtu, answer.mtu ?? device.mtu) });
    }
    return followRoutes(underlay, routes, before);
  }
}
