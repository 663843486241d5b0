import { guardChain, guardRule } from '../../services/iptables/plan/guard-chain.ts';
import type { Fragment } from '../../services/iptables/plan/service-rules.ts';
import type { SharedRule } from '../../services/iptables/plan/shared-chain.ts';

/** A rule that implements a Service, in the order in which a packet meets them. */
export interface ServiceRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** As its program prints it, without `-A CHAIN `. */
  readonly rule: string;
  readonly packets: number | undefined;
}

/** Where a packet comes by first: shared chains, then those of the Service, then what follows. */
const early = ['KUBE-PROXY-FIREWALL', 'KUBE-SERVICES', 'KUBE-NODEPORTS'] as const;
const ownOrder = ['KUBE-EXT-', 'KUBE-FW-', 'KUBE-SVL-', 'KUBE-SVC-'] as const;

/** A chain that is to be read, and which of its rules are the Service's. */
export interface WantedChain {
  readonly table: 'nat' | 'filter';
  readonly chain: string;
  readonly isOurs: (rule: string) => boolean;
}

/** A chain's place: table nat decides where a packet goes, table filter whether. */
function place({ table, chain }: WantedChain): number {
  const own = ownOrder.findIndex((prefix) => chain.startsWith(prefix));
  if (own >= 0) return 10 + own;
  const first = early.findIndex((name) => chain === name || chain.startsWith(`${name}-`));
  if (table === 'nat' && first >= 0) return first;
  return table === 'filter' ? 20 + Math.max(0, first) : 40;
}

/** The chains in which rules of the Service stand. A shared chain that is large is divided into buckets. */
export function wantedChains(fragments: readonly Fragment[]): WantedChain[] {
  const found = new Map<string, WantedChain>();
  const rules = new Map<string, SharedRule[]>();
  for (const { chains, shared } of fragments) {
    for (const [chain] of chains) found.set(`nat ${chain}`, { table: 'nat', chain, isOurs: () => true });
    for (const rule of shared) {
      const { table, chain, bucket } = rule;
      const alike = rules.get(`${table} ${chain}`) ?? [];
      rules.set(`${table} ${chain}`, alike);
      alike.push(rule);
      const isOurs = (line: string): boolean =>
        alike.some(({ match, action }) => line.includes(` ${match} `) && line.endsWith(` ${action}`));
      for (const name of [chain, `${chain}-${bucket.id}`])
        found.set(`${table} ${name}`, { table, chain: name, isOurs });
    }
  }
  const guards = new Set(
    fragments.flatMap(({ guarded }) => (guarded === undefined ? [] : guardRule(guarded))),
  );
  if (guards.size > 0)
    found.set(guardChain, { table: 'filter', chain: guardChain, isOurs: (rule) => guards.has(rule) });
  return [...found.values()].sort((a, b) => place(a) - place(b));
}
