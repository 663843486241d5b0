import { detectVariant, openIptables } from '../../kernel/iptables.ts';
import { kernelFamilies } from '../../kernel/ipv6.ts';
import { type Family, ipv4 } from '../../model/address.ts';
import { describeError, isTwillError, TwillError } from '../../model/error.ts';
import type { Check } from '../../model/health.ts';
import { coalesce } from '../../process/coalesce.ts';
import type { Log } from '../../process/log.ts';
import { hasConditions, hostPortRules } from '../plan/hostports.ts';
import type { PodRecord } from '../plan/pod.ts';
import { FamilyHostPorts } from './family-hostports.ts';
import type { Localnet } from './localnet.ts';

/** Keeps the host ports of the pods that stand in iptables: one chain of ours within the portmap plugin's. */
export class HostPorts {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  private readonly records: () => readonly PodRecord[];
  private readonly log: Log;
  private readonly localnet: Localnet;
  private readonly states = new Map<Family, FamilyHostPorts>();
  private readonly opening = new Map<Family, Promise<FamilyHostPorts>>();
  private looked = false;

  constructor(records: () => readonly PodRecord[], localnet: Localnet, log: Log) {
    this.records = records;
    this.localnet = localnet;
    this.log = log;
    this.sync = coalesce(() => this.syncAll());
  }

  /** @throws TwillError `kernel` when the rules that stand are not as they should be */
  async check(): Promise<void> {
    for (const [family, state] of this.states) await state.check(hostPortRules(this.records(), family));
  }

  /**
   * To be called before anything is made of a pod.
   * @throws TwillError `invalid` when iptables refuses its conditions, naming them
   */
  async assertConditions(record: PodRecord): Promise<void> {
    for (const family of kernelFamilies()) {
      const rules = hostPortRules([record], family);
      if (!rules.some(hasConditions)) continue;
      try {
        await (await this.stateOf(family)).assertTaken(rules);
      } catch (error) {
        if (!isTwillError(error, 'invalid')) throw error;
        const field = family === ipv4 ? 'conditionsV4' : 'conditionsV6';
        throw new TwillError('invalid', `network configuration: ${field}: ${describeError(error)}`);
      }
    }
  }

  private async syncAll(): Promise<void> {
    const records = this.records().filter(({ portMappings }) => portMappings.length > 0);
    // Without host ports nothing is looked at, except once: an earlier agent may have left rules.
    if (records.length === 0 && this.states.size === 0 && this.looked) return;
    for (const family of kernelFamilies()) await this.syncFamily(family, hostPortRules(records, family));
    this.looked = true;
    // 127.0.0.1:PORT on the node; there is nothing like it in IPv6.
    const ofIpv4 = records.filter(({ addresses }) => addresses.some(({ address }) => address.includes('.')));
    await this.localnet.ensure(new Set(ofIpv4.map(({ bridge }) => bridge)));
  }

  /** The next {@link sync} reads the rules, whatever is known of them. */
  doubt(): void {
    for (const state of this.states.values()) state.doubt();
  }

  /** What somebody should look at. */
  warnings(): Check[] {
    return [...this.states.values()].flatMap((state) => state.warnings());
  }

  private async syncFamily(family: Family, rules: readonly string[]): Promise<void> {
    if (rules.length === 0 && !this.states.has(family) && this.looked) return;
    await (await this.stateOf(family)).ensure(rules);
  }

  /** One for each family, though several ADDs ask for the first time at once. */
  private stateOf(family: Family): Promise<FamilyHostPorts> {
    const opening = this.opening.get(family) ?? this.open(family);
    this.opening.set(family, opening);
    opening.catch(() => this.opening.delete(family));
    return opening;
  }

  private async open(family: Family): Promise<FamilyHostPorts> {
    const { variant } = await detectVariant(family);
    const repair = (): void => {
      this.sync().catch((error: unknown) =>
        this.log.warn({ error: describeError(error) }, 'host port rules not repaired, will retry'),
      );
    };
    const state = new FamilyHostPorts(openIptables(family, variant), this.log, repair);
    this.states.set(family, state);
    return state;
  }

  close(): void {
    for (const state of this.states.values()) state.close();
  }
}
