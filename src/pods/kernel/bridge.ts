import { addAddress, listAddresses } from '../../kernel/netlink/addresses.ts';
import { createBridge, type Link, listLinks, setBridgePort, setLink } from '../../kernel/netlink/links.ts';
import type { Change, RtSocket } from '../../kernel/netlink/socket.ts';
import { readSysctl, writeSysctl } from '../../kernel/sysctl.ts';
import { ipv4, ipv6 } from '../../model/address.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import type { PodNetwork } from '../../model/pod-network.ts';
import type { PodRecord } from '../plan/pod.ts';
import { macOf } from '../plan/wiring.ts';

async function findLink(socket: RtSocket, name: string): Promise<Link | undefined> {
  return (await listLinks(socket)).find((link) => link.name === name);
}

/** Sends changes and throws the first refusal. */
export async function apply(socket: RtSocket, changes: readonly Change[]): Promise<void> {
  const failed = (await socket.batch(changes)).find((error) => error !== undefined);
  if (failed !== undefined) throw failed;
}

/** A pod that says that it is a router would otherwise get the node's traffic to the outside (CVE-2020-10749). */
function refuseAdvertisements(name: string): void {
  const setting = `net/ipv6/conf/${name}/accept_ra`;
  if (readSysctl(setting) !== undefined) writeSysctl(setting, '0');
}

/**
 * The bridge of the pods: made if it is not there, and given the gateway addresses and the overlay's MTU. Its MAC is set
 * to a fixed one when it is made: a bridge without takes its ports' lowest, and would change with every pod.
 * @throws TwillError `conflict` when a device of that name is no bridge
 */
export async function ensureBridge(socket: RtSocket, name: string, network: PodNetwork): Promise<Link> {
  let bridge = await findLink(socket, name);
  if (bridge === undefined) {
    const gateways = network.families.map(({ gateway }) => gateway);
    const first = gateways.find(({ family }) => family === ipv4) ?? gateways[0];
    const mac = first === undefined ? {} : { mac: macOf(first) };
    try {
      await socket.request(createBridge({ name, mtu: network.mtu, ...mac }));
    } catch (error) {
      if (!isTwillError(error, 'exists')) throw error;
    }
    bridge = await findLink(socket, name);
  }
  if (bridge?.kind !== 'bridge')
    throw new TwillError('conflict', `device ${name} is not a bridge: remove it, or choose another --bridge`);
  // While its link-local address is tentative, the bridge would resolve no pod for packets from elsewhere.
  if (network.families.some(({ family }) => family === ipv6))
    writeSysctl(`net/ipv6/conf/${name}/accept_dad`, '0');
  refuseAdvertisements(name);
  const { index } = bridge;
  const changes: Change[] = [];
  if (!bridge.up || bridge.mtu !== network.mtu)
    changes.push(setLink(index, { up: true, mtu: network.mtu }, name));
  const present = await listAddresses(socket);
  for (const { gateway, subnet } of network.families) {
    if (!present.some((entry) => entry.index === index && entry.address.text === gateway.text))
      changes.push(addAddress({ index, address: gateway, length: subnet.length }));
  }
  if (changes.length > 0) await apply(socket, changes);
  return bridge;
}

/**
 * Remembers that the bridge is as it should be, so that an ADD need not look. Whoever learns that it is not (a kernel
 * event, a refused change) calls `forget`.
 */
export class BridgeKeeper {
  private readonly socket: RtSocket;
  private readonly name: string;
  private known: { readonly wanted: string; readonly bridge: Promise<Link> } | undefined;

  constructor(socket: RtSocket, name: string) {
    this.socket = socket;
    this.name = name;
  }

  /** The bridge, made right if it was not known to be. */
  get(network: PodNetwork): Promise<Link> {
    const gateways = network.families.map(({ gateway, subnet }) => `${gateway.text}/${subnet.length}`);
    const wanted = `${gateways.join(' ')} mtu ${network.mtu}`;
    if (this.known?.wanted === wanted) return this.known.bridge;
    const bridge = ensureBridge(this.socket, this.name, network);
    this.known = { wanted, bridge };
    bridge.catch(() => this.forget());
    return bridge;
  }

  /** Puts the pods' devices that are no ports of the bridge on it. @returns how many there were */
  async adoptPorts(network: PodNetwork, records: readonly PodRecord[]): Promise<number> {
    const { index: master } = await this.get(network);
    const links = new Map((await listLinks(this.socket)).map((link) => [link.name, link]));
    const changes = records.flatMap(({ hostVeth, hairpin }) => {
      const port = links.get(hostVeth);
      if (port === undefined || port.master === master) return [];
      return [setLink(port.index, { master, up: true }, hostVeth), setBridgePort(hostVeth, hairpin)];
    });
    if (changes.length > 0) await apply(this.socket, changes);
    return changes.length / 2;
  }

  forget(): void {
    this.known = undefined;
  }
}
