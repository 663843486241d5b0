/** Services as rules tell them: what is known while nobody can be asked. kube-proxy's comments and ours are the same. */
import type { RuleSet } from './hooks.ts';
import type { SavedTable } from './iptables-rules.ts';
import type { Protocol } from './packet.ts';

/** One way to a Service: an address and port that stand for it. */
export interface ServiceAddress {
  /** `namespace/name` */
  readonly service: string;
  /** Name of the port; empty for one without. */
  readonly portName: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** `cluster IP`, `external IP`, … */
  readonly kind: string;
}

const rulePattern =
  /^(?:\[\d+:\d+\] )?-d (\S+?)(?:\/\d+)? -p (tcp|udp|sctp) .*--comment "([^" /]+\/[^" :]+)(?::([^" ]+))? ([^"]*)".* --dport (\d+) /;

function kindOf(words: string): string {
  return /^(cluster IP|external IP|loadbalancer IP)/.exec(words)?.[1] ?? 'cluster IP';
}

/** @param rules of one family */
export function servicesOfRules(rules: RuleSet): ServiceAddress[] {
  const tables = new Set<SavedTable>();
  for (const bases of Object.values(rules.hooks))
    for (const { table } of bases) if ('lines' in table) tables.add(table as SavedTable);
  const found = new Map<string, ServiceAddress>();
  for (const { lines } of tables)
    for (const [chain, texts] of lines) {
      if (!/^KUBE-(SERVICES|EXTERNAL-SERVICES)/.test(chain)) continue;
      for (const text of texts) {
        const match = rulePattern.exec(text);
        if (match === null) continue;
        const [, address = '', protocol, service = '', portName = '', words = '', port] = match;
        const one = {
          service,
          portName,
          address,
          port: Number(port),
          protocol: protocol as Protocol,
          kind: kindOf(words),
        };
        found.set(`${address} ${protocol} ${port}`, one);
      }
    }
  return [...found.values()];
}
