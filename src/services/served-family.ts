import type { FamilyRules } from './family-rules.ts';
import type { ProxyFlows } from './flows.ts';
import type { ProxyRules } from './iptables/rules.ts';
import type { ProxyLocalnet } from './localnet.ts';
import type { NftRules } from './nftables/rules.ts';
import type { NodeFacts } from './plan/service.ts';
import type { RulesWatch, WatchHooks } from './watch.ts';

/** One family that is served. */
export interface ServedFamily {
  readonly rules: FamilyRules;
  readonly flows: ProxyFlows;
  /** The same as `rules` in mode iptables, for those who want to read them. */
  readonly iptables: ProxyRules | undefined;
  /** Likewise in mode nftables. */
  readonly nftables?: NftRules;
  /** Opens the watch over its rules. */
  readonly openWatch: (hooks: WatchHooks) => RulesWatch;
  /** Where node ports may answer on loopback: IPv4. */
  readonly localnet: ProxyLocalnet | undefined;
  /**
   * Takes up what rules depend on besides Services, as it is now.
   * @returns Services whose rules depend on what changed
   */
  readonly configure: (facts: NodeFacts | undefined) => readonly string[];
  /** This node's addresses that serve node ports and health check ports, as they are now; undefined for all. */
  readonly nodePortAddresses: (facts: NodeFacts | undefined) => readonly string[] | undefined;
}
