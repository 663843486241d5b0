import { setTxChecksum } from '../kernel/ethtool.ts';
import { deleteLink, findLink } from '../kernel/netlink/links.ts';
import type { RtSocket } from '../kernel/netlink/socket.ts';
import { type Lease, leaseFamily } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { Family } from '../model/address.ts';
import type { Contest } from '../model/contest.ts';
import { describeError, isTwillError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import { type Log, LogLimiter } from '../process/log.ts';
import { ensureVxlan } from './devices.ts';
import type { ListedHost } from './host.ts';
import { hasAddress, planVxlan, type Underlay, type VxlanPlan, vxlanName } from './plan/device.ts';
import { randomMac, type VtepMacs } from './vtep-macs.ts';

export interface VtepsOptions {
  readonly socket: RtSocket;
  readonly macs: VtepMacs;
  readonly log: Log;
  readonly contest: Contest;
  /** What the devices' transmit checksum offload has to be; undefined to leave it as it is. */
  readonly checksumOffload: boolean | undefined;
  /** VTEP MAC that is published for this node beyond doubt. */
  readonly publishedMac: (family: Family) => string | undefined;
  /** True when another node said before us that the MAC which we publish is its. */
  readonly macContested: (family: Family, mac: string) => boolean;
}

/** The name under which repairs of a device are counted. */
export const deviceObject = (name: string): string => `device ${name}`;

function plannedNames({ backend, families }: NetworkConfig): string[] {
  return backend.type === 'vxlan' ? families.map(({ family }) => vxlanName(family, backend.vni)) : [];
}

/** The device of an earlier run, as it was before this one. */
function leftBehind(plan: VxlanPlan, { links, addresses }: ListedHost): number | undefined {
  const index = links.find(({ name, kind }) => name === plan.name && kind === 'vxlan')?.index;
  const present = addresses.filter((address) => address.index === index);
  return hasAddress(plan, present) ? index : undefined;
}

/** Our VXLAN devices and their MAC addresses. */
export class Vteps {
  /** Settings of our devices that had to be put right after they had stood. */
  repairs = 0;
  private readonly options: VtepsOptions;
  private readonly limiter = new LogLimiter();
  private readonly found = new Map<Family['name'], number>();
  /** Names of our devices by interface index. */
  private readonly names = new Map<number, string>();
  /** The plan that each device has stood by. */
  private readonly stood = new Map<string, string>();
  private readonly planned = new Map<string, VxlanPlan>();
  /** Devices whose foreign MAC was counted and stands still: a run that failed half-way has not set it back. */
  private readonly foreign = new Set<string>();

  constructor(options: VtepsOptions) {
    this.options = options;
  }

  /** Interface indexes by family. */
  get indexes(): ReadonlyMap<Family['name'], number> {
    return this.found;
  }

  /** The devices as they should be. */
  plans(): VxlanPlan[] {
    return [...this.planned.values()];
  }

  /** Name of the device with this interface index, if it is ours. */
  nameOf(index: number): string | undefined {
    return this.names.get(index);
  }

  /** The MACs other nodes know: of the last run, else of a device that stands (flanneld's), else new ones. */
  wantedMacs(host: ListedHost, config: NetworkConfig): Map<Family['name'], string> {
    const { macs, publishedMac } = this.options;
    const result = new Map<Family['name'], string>();
    const { backend } = config;
    if (backend.type !== 'vxlan') return result;
    for (const { family } of config.families) {
      const name = vxlanName(family, backend.vni);
      const standing = host.links.find((link) => link.name === name && link.kind === 'vxlan');
      const known = macs.get(name);
      const found =
        known === undefined
          ? (standing?.mac ?? publishedMac(family) ?? randomMac())
          : this.settled(name, known, standing?.mac ?? known);
      const mac = this.uncontested(name, family, found);
      if (known !== mac) macs.set(name, mac);
      result.set(family.name, mac);
    }
    return result;
  }

  /**
   * One MAC belongs to one node, and who said so first is believed: the other takes a new one (nodes with one machine-id
   * get one from udev; or somebody says that he has ours, and we have since written our lease anew).
   */
  private uncontested(device: string, family: Family, mac: string): string {
    if (!this.options.macContested(family, mac)) return mac;
    const chosen = randomMac();
    this.options.log.error(
      { device, before: mac, now: chosen },
      "another node's lease has our VTEP MAC, and had it first: taking a new one",
    );
    return chosen;
  }

  /**
   * A MAC that somebody changed (udev's MACAddressPolicy, flannel#1155) is set back once; one who changes it again means
   * it, and the other nodes are told the new one.
   */
  private settled(name: string, known: string, standing: string): string {
    if (known === standing || !this.stood.has(name) || this.foreign.has(name)) return known;
    this.foreign.add(name);
    const { contest, log } = this.options;
    const { count } = contest.note(`MAC address of ${name}`, monotonicMs());
    if (count === 1) return known;
    log.error(
      { device: name, ours: known, theirs: standing },
      "another program insists on the device's MAC address: publishing that one; exempt the device from udev's MACAddressPolicy",
    );
    return standing;
  }

  /**
   * Makes the devices as planned. What is wrong with one does not stop the other family's.
   * @param before the configuration by which pods' traffic flows so far: a family that has another device, or none, by it
   *   keeps that until it has the new one
   * @returns the first such error
   * @throws TwillError when it is about such a family
   */
  async ensure(
    host: ListedHost,
    config: NetworkConfig,
    underlay: Underlay,
    own: Lease,
    before: NetworkConfig | undefined,
  ): Promise<Error | undefined> {
    const { macs } = this.options;
    const { backend } = config;
    if (backend.type !== 'vxlan') return undefined;
    let failure: Error | undefined;
    for (const { family, network } of config.families) {
      const subnet = leaseFamily(own, family)?.subnet;
      const mac = macs.get(vxlanName(family, backend.vni));
      if (subnet === undefined || mac === undefined) continue;
      const plan = planVxlan({ family, backend, underlay, mac, subnet, network });
      this.planned.set(plan.name, plan);
      try {
        await this.ensureDevice(plan, host);
      } catch (error) {
        const flows = before !== config && before?.families.some((one) => one.family === family) === true;
        if (flows && !this.stood.has(plan.name)) throw error;
        failure ??= error as Error;
        await this.useWhatStands(plan, host);
      }
    }
    return failure;
  }

  /** Where the device is gone, down, or another without its address, no entry can stand that leads through it. */
  private async useWhatStands(plan: VxlanPlan, host: ListedHost): Promise<void> {
    const { name, family } = plan;
    const known = this.stood.has(name) ? this.found.get(family.name) : leftBehind(plan, host);
    const link = await findLink(this.options.socket, name);
    if (link?.up !== true || link.index !== known) {
      this.found.delete(family.name);
      return;
    }
    this.found.set(family.name, link.index);
    this.names.set(link.index, name);
  }

  private async ensureDevice(plan: VxlanPlan, host: ListedHost): Promise<void> {
    const { socket, log } = this.options;
    const { name, family } = plan;
    const { index, repairs } = await ensureVxlan(socket, plan, host, log);
    const print = JSON.stringify(plan, (_, value) => (typeof value === 'bigint' ? String(value) : value));
    // What follows from a plan that changed (the underlay's MTU, say) is nobody's fault.
    if (this.stood.get(name) === print) this.count(name, repairs);
    this.stood.set(name, print);
    this.foreign.delete(name);
    this.found.set(family.name, index);
    this.names.set(index, name);
    this.offload(name);
  }

  private offload(device: string): void {
    const { checksumOffload: on, log } = this.options;
    if (on === undefined) return;
    try {
      if (setTxChecksum(device, on)) log.info({ device, on }, 'set the transmit checksum offload');
    } catch (error) {
      // The device works without; the next run tries again.
      if (this.limiter.allow(device) !== undefined)
        log.warn({ device, error: describeError(error) }, 'cannot set the transmit checksum offload');
    }
  }

  private count(name: string, repairs: readonly string[]): void {
    if (repairs.length === 0) return;
    const { contest, log } = this.options;
    this.repairs += repairs.length;
    if (contest.note(deviceObject(name), monotonicMs()).begins)
      log.error(
        { device: name, repairs },
        'something keeps changing the device (another program?): it is put right less often from now on',
      );
  }

  /** Removes our devices of an earlier configuration, when the entries no longer go through them. */
  async retire(host: ListedHost, config: NetworkConfig): Promise<void> {
    const { socket, macs, log } = this.options;
    const planned = plannedNames(config);
    for (const name of this.planned.keys()) if (!planned.includes(name)) this.planned.delete(name);
    for (const name of macs.names()) {
      if (planned.includes(name)) continue;
      const link = host.links.find((candidate) => candidate.name === name && candidate.kind === 'vxlan');
      if (link !== undefined) {
        try {
          await socket.request(deleteLink(link.index, name));
        } catch (error) {
          if (!isTwillError(error, 'not-found')) throw error;
        }
        log.info({ device: name }, 'removed the VXLAN device of an earlier network configuration');
      }
      macs.delete(name);
      this.stood.delete(name);
    }
    for (const name of this.found.keys())
      if (config.backend.type !== 'vxlan' || config.families.every(({ family }) => family.name !== name))
        this.found.delete(name);
  }
}
