import { listSysctls, readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import type { Family } from '../model/address.ts';
import type { Contest } from '../model/contest.ts';
import { describeError } from '../model/error.ts';
import type { Check } from '../model/health.ts';
import { monotonicMs } from '../process/clock.ts';
import { type Log, LogLimiter } from '../process/log.ts';

const forwarding = { ipv4: 'net/ipv4/ip_forward', ipv6: 'net/ipv6/conf/all/forwarding' } as const;
const bridged = {
  ipv4: 'net/bridge/bridge-nf-call-iptables',
  ipv6: 'net/bridge/bridge-nf-call-ip6tables',
} as const;

/** The name under which repairs of a setting are counted. */
export const settingObject = (name: string): string => `setting ${name}`;

/** How the node's settings are read and written; a test puts its own in place. */
export interface Sysctls {
  readonly read: (name: string) => string | undefined;
  readonly write: (name: string, value: string) => boolean;
  /** For settings that go with a device of ours: nobody has to set them back. */
  readonly writeOwn: (name: string, value: string) => boolean;
  readonly list: (folder: string) => string[];
}

const IPV6_INTERFACES = 'net/ipv6/conf';

export const standardSysctls: Sysctls = {
  read: readSysctl,
  write: writeSysctl,
  writeOwn: writeSysctl,
  list: listSysctls,
};

/** Devices by which packets of pods come in. */
export interface PacketDevices {
  /** Our own, whose settings are ours, with the families that they carry. */
  readonly own: readonly { readonly name: string; readonly families: readonly Family[] }[];
  /** Names of the others. */
  readonly others: readonly string[];
}

/** Keeps the settings of the whole node that pods' traffic needs, and says which it cannot get right. */
export class NodeSettings {
  /** Settings that had to be put right after they had stood. */
  repairs = 0;
  private readonly log: Log;
  private readonly contest: Contest;
  private readonly sysctls: Sysctls;
  private readonly limiter = new LogLimiter();
  private readonly stood = new Set<string>();
  private found: readonly Check[] = [];
  private ofDevices: readonly Check[] = [];
  /** The settings of devices among those that stood. */
  private devices: ReadonlySet<string> = new Set();

  constructor(log: Log, contest: Contest, sysctls: Sysctls = standardSysctls) {
    this.log = log;
    this.contest = contest;
    this.sysctls = sysctls;
  }

  /** What is not as pods need it, with what to do about it. */
  problems(): readonly Check[] {
    return [...this.found, ...this.ofDevices];
  }

  /** Settings that stood and are off now. Costs a few small reads: the kernel tells of forwarding alone. */
  undone(): string[] {
    return [...this.stood].filter((name) => this.sysctls.read(name) === '0');
  }

  ensure(families: readonly Family[]): void {
    const problems: Check[] = [];
    const wanted = families.flatMap(({ name }): string[] => [forwarding[name], bridged[name]]);
    for (const name of this.stood)
      if (!wanted.includes(name) && !this.devices.has(name)) this.stood.delete(name);
    for (const family of families) {
      this.set(problems, forwarding[family.name], 'pods of other nodes are not reached', 'failed');
      this.bridged(problems, family);
    }
    this.found = problems;
    this.tell(problems);
  }

  /**
   * Where forwarding is on for the node it may be off for a device all the same: a device that is made takes
   * `conf/default`, and hardening guides turn it off for single ones. What comes in there is not forwarded then.
   */
  ensureDevices(families: readonly Family[], { own, others }: PacketDevices): void {
    const problems: Check[] = [];
    const settingOf = ({ name }: Family, device: string): string => `net/${name}/conf/${device}/forwarding`;
    // Where it is off for the node, that is what has to be said.
    const forwards = (family: Family): boolean => this.sysctls.read(forwarding[family.name]) === '1';
    const ours = own.flatMap(({ name, families: carried }) =>
      carried.filter(forwards).map((family) => settingOf(family, name)),
    );
    for (const name of this.devices) if (!ours.includes(name)) this.stood.delete(name);
    this.devices = new Set(ours);
    for (const name of ours)
      if (this.sysctls.read(name) !== undefined)
        this.set(
          problems,
          name,
          "this node's pods and those of other nodes do not reach each other",
          'failed',
        );
    const foreign = families
      .filter(forwards)
      .flatMap((family) => others.map((device) => settingOf(family, device)));
    for (const name of foreign) {
      if (this.sysctls.read(name) !== '0') continue;
      const detail = `${name} is 0, so what comes in there for pods is dropped, answers from the outside too: set it to 1, and look in /etc/sysctl.d and the network configuration for what turns it off`;
      problems.push({ name: 'sysctl', state: 'warning', detail });
    }
    this.ofDevices = problems;
    this.tell(problems);
  }

  private tell(problems: readonly Check[]): void {
    for (const { detail } of problems)
      if (this.limiter.allow(detail) !== undefined)
        this.log.warn({ problem: detail }, 'the node is not set up');
  }

  /** Packets between two pods of one node pass the bridge only: iptables sees them where this is on (flannel#2068). */
  private bridged(problems: Check[], family: Family): void {
    const name = bridged[family.name];
    const consequence = 'a pod does not reach a ClusterIP whose endpoint is on its own node';
    if (this.sysctls.read(name) !== undefined) {
      this.set(problems, name, consequence, 'warning');
      return;
    }
    const detail = `the kernel module br_netfilter is not loaded, so ${consequence}: run 'modprobe br_netfilter', and name it in /etc/modules-load.d/`;
    if (!problems.some((problem) => problem.detail === detail))
      problems.push({ name: 'bridge netfilter', state: 'warning', detail });
  }

  /**
   * A router listens to no other router: with forwarding the kernel drops the default routes that it learned and lets the
   * addresses expire, unless accept_ra is 2 (Documentation/networking/ip-sysctl.rst). Interfaces that do listen, and those
   * to come, have to be told before. 0 stays: somebody decided so. An interface that forwards already does not listen.
   */
  private keepAdvertisements(): void {
    if (this.sysctls.read(forwarding.ipv6) !== '0') return;
    const told = this.sysctls.list(IPV6_INTERFACES).filter((name) => {
      const folder = `${IPV6_INTERFACES}/${name}`;
      if (name === 'all' || this.sysctls.read(`${folder}/accept_ra`) !== '1') return false;
      if (this.sysctls.read(`${folder}/forwarding`) === '1') return false;
      return this.sysctls.write(`${folder}/accept_ra`, '2');
    });
    if (told.length > 0)
      this.log.info(
        { interfaces: told },
        'set accept_ra to 2: with forwarding these interfaces would lose what routers advertise',
      );
  }

  private set(problems: Check[], name: string, consequence: string, state: Check['state']): void {
    try {
      if (name === forwarding.ipv6) this.keepAdvertisements();
      const write = this.devices.has(name) ? this.sysctls.writeOwn : this.sysctls.write;
      if (write(name, '1')) this.turnedOn(name);
      this.stood.add(name);
    } catch (error) {
      this.stood.delete(name);
      problems.push({ name: 'sysctl', state, detail: `${describeError(error)}; ${consequence}` });
    }
  }

  private turnedOn(name: string): void {
    if (!this.stood.has(name)) {
      this.log.info({ sysctl: name }, 'turned on');
      return;
    }
    this.repairs++;
    const { begins } = this.contest.note(settingObject(name), monotonicMs());
    if (begins)
      this.log.error(
        { sysctl: name },
        'something keeps turning the setting off (another program?): it is turned on less often from now on',
      );
    else this.log.info({ sysctl: name }, 'turned on again');
  }
}
