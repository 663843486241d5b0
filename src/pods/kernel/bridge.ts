import { addAddress, deleteAddress, listAddresses } from '../../kernel/netlink/addresses.ts';
import {
  createDevice,
  findLink,
  type Link,
  listLinks,
  setBridgePort,
  setLink,
} from '../../kernel/netlink/links.ts';
import type { Change, RtSocket } from '../../kernel/netlink/socket.ts';
import { readSysctl, writeSysctl } from '../../kernel/sysctl.ts';
import { type Family, ipv6 } from '../../model/address.ts';
import { isTwillError, TwillError } from '../../model/error.ts';
import type { PodNetwork } from '../../model/pod-network.ts';
import {
  type BridgeOptions,
  bridgeMac,
  lastingMac,
  planBridgeAddresses,
  portProblem,
  usualBridge,
} from '../plan/bridge.ts';
import type { PodRecord } from '../plan/pod.ts';
import type { PodRepairs } from '../repairs.ts';

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

async function findOrMake(
  socket: RtSocket,
  name: string,
  network: PodNetwork,
): Promise<{ bridge: Link; made: boolean }> {
  let bridge = await findLink(socket, name);
  const made = bridge === undefined;
  if (bridge === undefined) {
    const own = bridgeMac(network);
    const mac = own === undefined ? {} : { mac: own };
    try {
      await socket.request(createDevice('bridge', { name, mtu: network.mtu, ...mac }));
    } catch (error) {
      if (!isTwillError(error, 'exists')) throw error;
    }
    bridge = await findLink(socket, name);
  }
  if (bridge?.kind !== 'bridge')
    throw new TwillError('conflict', `device ${name} is not a bridge: remove it, or choose another --bridge`);
  return { bridge, made };
}

/**
 * The bridge of the pods: made if it is not there, and given the gateway addresses and the overlay's MTU.
 * @param known the bridge as it was found before: its MAC is fixed
 * @returns the bridge, and whether it was not so before
 * @throws TwillError `conflict` when a device of that name is no bridge, `invalid` when another device has a gateway address
 */
async function ensureBridge(
  socket: RtSocket,
  name: string,
  network: PodNetwork,
  options: BridgeOptions,
  known?: Pick<Link, 'index' | 'mac'>,
): Promise<{ readonly bridge: Link; readonly changed: boolean }> {
  const present = await listAddresses(socket);
  const links = new Map((await listLinks(socket)).map((link) => [link.index, link.name]));
  const nameOf = (index: number): string => links.get(index) ?? `device ${index}`;
  const found = [...links].find(([, link]) => link === name)?.[0] ?? 0;
  // Refused before anything is made.
  planBridgeAddresses({ index: found, name }, network, options, present, nameOf);
  const { bridge, made } = await findOrMake(socket, name, network);
  const { index } = bridge;
  for (const { family } of network.families) forward(name, family);
  if (network.families.some(({ family }) => family === ipv6)) prepareIpv6(name);
  refuseAdvertisements(name);
  const changes: Change[] = [];
  if (!bridge.up || bridge.mtu !== network.mtu)
    changes.push(setLink(index, { up: true, mtu: network.mtu }, name));
  const { add, remove } = planBridgeAddresses({ index, name }, network, options, present, nameOf);
  // First what has to go: IPv4 takes a network's later addresses away with its first one.
  changes.push(...remove.map((address) => deleteAddress({ index, ...address })));
  changes.push(...add.map((address) => addAddress({ index, ...address })));
  const changed = made || changes.length > 0;
  if (options.promiscuous) changes.push(setLink(index, { promiscuous: true }, name));
  const { mac, isToSet } = lastingMac(bridge, made, known, network);
  if (isToSet) changes.push(setLink(index, { mac }, name));
  if (changes.length > 0) await apply(socket, changes);
  return { bridge: { ...bridge, mac }, changed };
}

/** A node that forwards may have it off for what is made new (`conf/default`): pods would reach nobody. */
function forward(name: string, family: Family): void {
  const setting = `net/${family.name}/conf/${name}/forwarding`;
  const isOn = readSysctl(`net/${family.name}/conf/all/forwarding`) === '1';
  if (isOn && readSysctl(setting) === '0') writeSysctl(setting, '1');
}

/** A node may have IPv6 off for what is made new, and its pods have it all the same. */
function prepareIpv6(name: string): void {
  if (readSysctl(`net/ipv6/conf/${name}/disable_ipv6`) === '1')
    writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, '0');
  // While its link-local address is tentative, the bridge would resolve no pod for packets from elsewhere.
  writeSysctl(`net/ipv6/conf/${name}/accept_dad`, '0');
}

/**
 * Remembers that the bridge is as it should be, so that an ADD need not look. Whoever learns that it is not (a kernel
 * event, a refused change) calls `forget`.
 */
export class BridgeKeeper {
  private readonly socket: RtSocket;
  private readonly name: string;
  /** By what was wanted of it. */
  private readonly known = new Map<string, Promise<Link>>();
  /** The node's addresses and MTU when it was looked at: with others nothing is known any more. */
  private network = '';
  /** What it was made right for last. */
  private stood = '';
  /** As it was found then. */
  private bridge: Link | undefined;
  private readonly repairs: PodRepairs;

  constructor(socket: RtSocket, name: string, repairs: PodRepairs) {
    this.socket = socket;
    this.name = name;
    this.repairs = repairs;
  }

  /** Whether the bridge, when it was looked at last, kept new ports waiting. */
  get runsStp(): boolean {
    return this.bridge?.stp === true;
  }

  /** The bridge, made right if it was not known to be. */
  get(network: PodNetwork, options: BridgeOptions = usualBridge): Promise<Link> {
    const gateways = network.families.map(({ gateway, subnet }) => `${gateway.text}/${subnet.length}`);
    const { gateway, promiscuous, forceAddress } = options;
    const wanted = `${gateways.join(' ')} mtu ${network.mtu} ${gateway} ${promiscuous} ${forceAddress}`;
    const known = this.known.get(wanted);
    if (known !== undefined) return known;
    if (!wanted.startsWith(this.network)) this.forget();
    this.network = `${gateways.join(' ')} mtu ${network.mtu} `;
    const bridge = this.ensure(network, options, wanted);
    this.known.set(wanted, bridge);
    bridge.catch(() => this.forget());
    return bridge;
  }

  private async ensure(network: PodNetwork, options: BridgeOptions, wanted: string): Promise<Link> {
    const { bridge, changed } = await ensureBridge(this.socket, this.name, network, options, this.bridge);
    if (changed && this.stood === wanted) this.repairs.pods++;
    this.stood = wanted;
    this.bridge = bridge;
    return bridge;
  }

  /**
   * Puts the pods' devices on the bridge that are not on it, or are down, or have other settings of a port than is wanted.
   * @returns how many there were
   */
  async adoptPorts(network: PodNetwork, records: readonly PodRecord[]): Promise<number> {
    const gateway = records.some((record) => record.gateway !== false);
    const promiscuous = records.some((record) => record.promiscuous === true);
    const { index: master } = await this.get(network, { gateway, promiscuous });
    const links = new Map((await listLinks(this.socket)).map((link) => [link.name, link]));
    const changes = records.flatMap((record) => {
      const { hostVeth, hairpin, isolated } = record;
      const port = links.get(hostVeth);
      if (port === undefined || (port.master === master && portProblem(port, record) === undefined))
        return [];
      return [
        setLink(port.index, { master, up: true }, hostVeth),
        setBridgePort(hostVeth, { hairpin, isolated, mtu: port.mtu }),
      ];
    });
    if (changes.length > 0) await apply(this.socket, changes);
    return changes.length / 2;
  }

  forget(): void {
    this.known.clear();
  }
}
