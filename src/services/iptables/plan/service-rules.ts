/**
 * The rules of one Service port, exactly as iptables-save prints them, so that what stands in the kernel can be compared
 * as text. Semantics follow kube-proxy's pkg/proxy/iptables/proxier.go with three differences in structure:
 *
 * - the Service chain holds the DNAT rules themselves, there is no chain per endpoint;
 * - whether a connection needs masquerading because it does not come from a pod is decided once, at the head of
 *   KUBE-SERVICES, not in each Service chain; chains of policy Local take the mark back;
 * - a pod that reaches itself is recognised after DNAT (source equals destination), which takes one rule for all.
 */

import { parseAddress, parsePrefix, prefixContains } from '../../../model/address.ts';
import { hairpinAddresses, servesCluster, servesExternal } from '../../plan/reach.ts';
import { type Backend, isExternal, type ServicePortEntry } from '../../plan/table.ts';
import { backendRules } from './backend-rules.ts';
import type { GuardedPort } from './guard-chain.ts';
import { hairpinActions } from './hairpin.ts';
import { masqueradeMark, type ServiceChains, serviceChains, tables } from './names.ts';
import { marksAtHead, type RenderOptions } from './options.ts';
import { addressBucket, portBucket, type SharedRule } from './shared-chain.ts';

/** What one Service port contributes: chains of its own (table nat) and rules in shared chains. */
export interface Fragment {
  readonly chains: readonly (readonly [name: string, text: string])[];
  readonly shared: readonly SharedRule[];
  readonly guarded: GuardedPort | undefined;
}

/** Rule that takes the masquerade mark back. */
export const unmark = `-j MARK --set-xmark 0x0/${masqueradeMark}`;

class FragmentBuilder {
  private readonly entry: ServicePortEntry;
  private readonly options: RenderOptions;
  private readonly protocol: string;
  private readonly names: ServiceChains;
  private readonly hostBits: string;
  readonly chains: [string, string][] = [];
  readonly shared: SharedRule[] = [];

  constructor(entry: ServicePortEntry, options: RenderOptions) {
    this.entry = entry;
    this.options = options;
    this.protocol = entry.protocol.toLowerCase();
    this.names = serviceChains(entry.name, this.protocol, options.sha256);
    this.hostBits = options.v6 ? '/128' : '/32';
  }

  build(): Fragment {
    const { entry, names } = this;
    this.backendChain(names.cluster, entry.clusterBackends);
    this.backendChain(names.local, entry.localBackends);
    this.hairpins();
    this.clusterIP();
    if (isExternal(entry)) {
      if (entry.hasEndpoints) this.externalChain();
      this.externalAddresses();
      this.nodePort();
    }
    this.healthCheckPort();
    return { chains: this.chains, shared: this.shared, guarded: this.guarded() };
  }

  private backendChain(chain: string, backends: readonly Backend[]): void {
    if (backends.length > 0)
      this.chains.push([chain, backendRules(chain, backends, this.entry, this.options)]);
  }

  /** Where the kernel cannot compare addresses: endpoints that may reach themselves through this node. */
  private hairpins(): void {
    const { entry, options } = this;
    if (options.matches.includes('bpf')) return;
    for (const address of hairpinAddresses(entry)) {
      const host = address + this.hostBits;
      const rule = {
        chain: 'KUBE-HAIRPIN',
        bucket: addressBucket(address, options.v6),
        class: 0,
        match: `-s ${host} -d ${host}`,
        comment: '',
      };
      for (const table of tables) this.shared.push({ ...rule, table, action: hairpinActions[table] });
    }
  }

  private portRule(
    place: { table: 'nat' | 'filter'; chain: string; class: number },
    address: string,
    comment: string,
    target: string,
  ): void {
    this.shared.push({
      ...place,
      bucket: addressBucket(address, this.options.v6),
      match: `-d ${address}${this.hostBits} -p ${this.protocol}`,
      comment: `${this.entry.name} ${comment}`,
      action: `-m ${this.protocol} --dport ${this.entry.port} ${target}`,
    });
  }

  /** What happens to traffic that finds no endpoint: nobody has one (REJECT), or only this node has none (DROP). */
  private refusal(): { comment: string; target: string } {
    if (this.entry.hasEndpoints) return { comment: 'has no local endpoints', target: '-j DROP' };
    const kind = this.options.v6 ? 'icmp6-port-unreachable' : 'icmp-port-unreachable';
    return { comment: 'has no endpoints', target: `-j REJECT --reject-with ${kind}` };
  }

  private guarded(): GuardedPort | undefined {
    const { entry, protocol } = this;
    return servesCluster(entry) ? { address: entry.clusterIP, protocol, port: entry.port } : undefined;
  }

  private clusterIP(): void {
    const { entry, names } = this;
    if (servesCluster(this.entry)) {
      const chain = entry.internalLocal ? names.local : names.cluster;
      const place = { table: 'nat', chain: 'KUBE-SERVICES', class: 0 } as const;
      this.portRule(place, entry.clusterIP, 'cluster IP', `-j ${chain}`);
    } else {
      const { comment, target } = this.refusal();
      const place = { table: 'filter', chain: 'KUBE-SERVICES', class: 0 } as const;
      this.portRule(place, entry.clusterIP, comment, target);
    }
  }

  private externalChain(): void {
    const { entry, names, options } = this;
    const { name } = entry;
    const append = `-A ${names.external}`;
    const comment = (text: string): string => `-m comment --comment "${text}"`;
    const lines: string[] = [];
    if (!entry.externalLocal) {
      lines.push(
        `${append} ${comment(`masquerade traffic for ${name} external destinations`)} -j KUBE-MARK-MASQ`,
      );
    } else {
      if (marksAtHead(options)) lines.push(`${append} ${unmark}`);
      if (entry.clusterBackends.length > 0) {
        if (options.fromPod !== undefined) {
          const why = comment(`pod traffic for ${name} external destinations`);
          lines.push(`${append} ${options.fromPod} ${why} -j ${names.cluster}`);
        }
        const masquerade = comment(`masquerade LOCAL traffic for ${name} external destinations`);
        lines.push(`${append} ${masquerade} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`);
        const route = comment(`route LOCAL traffic for ${name} external destinations`);
        lines.push(`${append} ${route} -m addrtype --src-type LOCAL -j ${names.cluster}`);
      }
    }
    if (servesExternal(this.entry)) {
      lines.push(`${append} -j ${entry.externalLocal ? names.local : names.cluster}`);
    }
    this.chains.push([names.external, lines.join('\n')]);
  }

  private externalAddresses(): void {
    const { entry, names } = this;
    const firewalled =
      entry.hasEndpoints && entry.loadBalancerIPs.length > 0 && entry.sourceRanges.length > 0;
    if (firewalled) this.firewallChain();
    const kinds = [
      { addresses: entry.externalIPs, what: 'external IP', chain: names.external, class: 1 },
      {
        addresses: entry.loadBalancerIPs,
        what: 'loadbalancer IP',
        chain: firewalled ? names.firewall : names.external,
        class: 2,
      },
    ];
    for (const kind of kinds) {
      for (const address of new Set(kind.addresses)) {
        if (entry.hasEndpoints) {
          const place = { table: 'nat', chain: 'KUBE-SERVICES', class: kind.class } as const;
          this.portRule(place, address, kind.what, `-j ${kind.chain}`);
        }
        if (!servesExternal(this.entry)) {
          const { comment, target } = this.refusal();
          const place = { table: 'filter', chain: 'KUBE-EXTERNAL-SERVICES', class: kind.class } as const;
          this.portRule(place, address, comment, target);
        }
      }
    }
    if (firewalled) this.firewallDrops();
  }

  private firewallChain(): void {
    const { entry, names } = this;
    const append = `-A ${names.firewall}`;
    const comment = `-m comment --comment "${entry.name} loadbalancer IP"`;
    const jump = `-j ${names.external}`;
    const from = (source: string): string => `${append} -s ${source} ${comment} ${jump}`;
    const lines = entry.sourceRanges.map(from);
    // A node that holds the load balancer's address itself reaches it from that address.
    if (this.sourceRangesIncludeNode()) {
      for (const address of entry.loadBalancerIPs) lines.push(from(address + this.hostBits));
    }
    this.chains.push([names.firewall, lines.join('\n')]);
  }

  private sourceRangesIncludeNode(): boolean {
    const own = this.options.nodeAddresses.map(parseAddress);
    return this.entry.sourceRanges
      .map(parsePrefix)
      .some((range) => own.some((address) => prefixContains(range, address)));
  }

  private firewallDrops(): void {
    for (const address of new Set(this.entry.loadBalancerIPs)) {
      const place = { table: 'filter', chain: 'KUBE-PROXY-FIREWALL', class: 0 } as const;
      this.portRule(place, address, `traffic not accepted by ${this.names.firewall}`, '-j DROP');
    }
  }

  private nodePort(): void {
    const { entry, names, protocol } = this;
    if (entry.nodePort === 0) return;
    const common = { bucket: portBucket(entry.nodePort, protocol), class: 3 };
    if (entry.hasEndpoints) {
      this.shared.push({
        ...common,
        table: 'nat',
        chain: 'KUBE-NODEPORTS',
        match: `-p ${protocol}`,
        comment: entry.name,
        action: `-m ${protocol} --dport ${entry.nodePort} -j ${names.external}`,
      });
    }
    if (!servesExternal(this.entry)) {
      const { comment, target } = this.refusal();
      this.shared.push({
        ...common,
        table: 'filter',
        chain: 'KUBE-EXTERNAL-SERVICES',
        match: `-p ${protocol}`,
        comment: `${entry.name} ${comment}`,
        action: `-m addrtype --dst-type LOCAL -m ${protocol} --dport ${entry.nodePort} ${target}`,
      });
    }
  }

  private healthCheckPort(): void {
    const port = this.entry.healthCheckNodePort;
    if (port === 0) return;
    this.shared.push({
      table: 'filter',
      chain: 'KUBE-NODEPORTS',
      bucket: portBucket(port, 'tcp'),
      class: 0,
      match: '-p tcp',
      comment: `${this.entry.service} health check node port`,
      action: `-m tcp --dport ${port} -j ACCEPT`,
    });
  }
}

/** @returns the rules of one Service port; valid input cannot make it fail */
export function renderServicePort(entry: ServicePortEntry, options: RenderOptions): Fragment {
  return new FragmentBuilder(entry, options).build();
}
