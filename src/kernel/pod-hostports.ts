import type { Log } from '../config/log.ts';
import { hostPortRules, repairDocument, replaceDocument } from '../desired/pod-plan-hostports.ts';
import { type Family, families, ipv4 } from '../model/address.ts';
import { describeError, TwillError } from '../model/error.ts';
import type { PodRecord } from '../model/pod.ts';
import { coalesce } from '../reconcile/coalesce.ts';
import { detectVariant, type Iptables, openIptables } from './iptables.ts';
import { run } from './process.ts';
import { writeSysctl } from './sysctl.ts';

interface FamilyState {
  readonly iptables: Iptables;
  /** The rules that stand, as far as we know; undefined when that must be looked up. */
  installed: readonly string[] | undefined;
}

/** Keeps the host ports of the pods that stand in iptables: one chain of ours within the portmap plugin's. */
export class HostPorts {
  /** Makes the rules equal to the records'. */
  readonly sync: () => Promise<void>;
  private readonly records: () => readonly PodRecord[];
  private readonly log: Log;
  private readonly states = new Map<Family, FamilyState>();
  private looked = false;

  constructor(records: () => readonly PodRecord[], log: Log) {
    this.records = records;
    this.log = log;
    this.sync = coalesce(() => this.syncAll());
  }

  /** Compares with what stands, and repairs it. */
  async verify(): Promise<void> {
    for (const state of this.states.values()) state.installed = undefined;
    await this.sync();
  }

  /** @throws TwillError `kernel` when the rules that stand are not as they should be */
  async check(): Promise<void> {
    for (const [family, { iptables }] of this.states) {
      const rules = hostPortRules(this.records(), family);
      if (repairDocument(await iptables.save('nat'), rules) !== undefined)
        throw new TwillError('kernel', `${family.iptables} rules of host ports are missing or changed`);
    }
  }

  private async syncAll(): Promise<void> {
    const records = this.records().filter(({ portMappings }) => portMappings.length > 0);
    // Without host ports nothing is looked at, except once: an earlier agent may have left rules.
    if (records.length === 0 && this.states.size === 0 && this.looked) return;
    for (const family of families) await this.syncFamily(family, hostPortRules(records, family));
    this.looked = true;
    for (const bridge of new Set(records.map((record) => record.bridge)))
      writeSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1'); // 127.0.0.1:PORT on the node
  }

  private async syncFamily(family: Family, rules: readonly string[]): Promise<void> {
    if (rules.length === 0 && !this.states.has(family) && this.looked) return;
    const state = await this.stateOf(family);
    if (state === undefined) return;
    const { iptables, installed } = state;
    if (installed !== undefined && installed.length > 0 && rules.length > 0) {
      if (installed.join('\n') === rules.join('\n')) return;
      state.installed = undefined;
      await iptables.restore(replaceDocument(rules));
    } else {
      const saved = await iptables.save('nat');
      const document = repairDocument(saved, rules);
      if (document !== undefined) {
        this.log.info({ family: family.name, rules: rules.length }, 'host port rules repaired');
        await iptables.restore(document);
      }
    }
    state.installed = rules;
  }

  private async stateOf(family: Family): Promise<FamilyState | undefined> {
    const known = this.states.get(family);
    if (known !== undefined) return known;
    const { variant } = await detectVariant(family);
    const state: FamilyState = { iptables: openIptables(family, variant), installed: undefined };
    this.states.set(family, state);
    return state;
  }
}

/**
 * Forgets UDP conversations that began before a host port led to the pod, or lead to one that is gone: conntrack would
 * keep sending them the old way for as long as they go on. Failing is harmless, so it is only logged.
 */
export async function forgetUdpFlows(record: PodRecord, log: Log): Promise<void> {
  for (const { protocol, hostPort } of record.portMappings) {
    if (protocol !== 'udp') continue;
    for (const { address } of record.addresses) {
      const family = address.includes(':') ? 'ipv6' : ipv4.name;
      const args = ['-D', '-f', family, '-p', 'udp', '--orig-port-dst', String(hostPort)];
      // Exit status 1 means that there was none.
      await run('conntrack', args).catch((error: unknown) =>
        log.warn({ hostPort, error: describeError(error) }, 'cannot clear old UDP flows of a host port'),
      );
    }
  }
}
