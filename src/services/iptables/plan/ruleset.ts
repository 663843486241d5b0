import { countedBy, packetCounters } from './counters.ts';
import { GuardedPorts, guardChain, guardRule } from './guard-chain.ts';
import { hairpinActions, toItself } from './hairpin.ts';
import { localnetChain, masqueradeMark, type Table, tables } from './names.ts';
import { marksAtHead, type RenderOptions } from './options.ts';
import { type Fragment, unmark } from './service-rules.ts';
import { SharedChain } from './shared-chain.ts';

/** Chain name to its rules, one line each as iptables-save prints them (`-A CHAIN …`). */
export type Chains = Map<string, string>;

const sharedChains: readonly { readonly table: Table; readonly chain: string }[] = [
  { table: 'nat', chain: 'KUBE-SERVICES' },
  { table: 'nat', chain: 'KUBE-NODEPORTS' },
  { table: 'nat', chain: 'KUBE-HAIRPIN' },
  { table: 'filter', chain: 'KUBE-SERVICES' },
  { table: 'filter', chain: 'KUBE-EXTERNAL-SERVICES' },
  { table: 'filter', chain: 'KUBE-NODEPORTS' },
  { table: 'filter', chain: 'KUBE-PROXY-FIREWALL' },
  { table: 'filter', chain: 'KUBE-HAIRPIN' },
];

const mark = `${masqueradeMark}/${masqueradeMark}`;

function append(chain: string, rules: readonly string[]): string {
  return rules.map((rule) => `-A ${chain} ${rule}`).join('\n');
}

/** The rule that keeps packets forged to loopback addresses out; the kubelet makes the same one. */
const localnetRule =
  '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP';

/** Says, for a later run or `--cleanup`, that route_localnet was off before and is to be set back. */
export const localnetMark = '"loopback from elsewhere; route_localnet was 0"';

/** The kernel refuses a loopback source only where it is an address of the node, which 127.0.0.2 is not. */
function localnetRules({ opensLocalnet }: RenderOptions): string {
  const comment = opensLocalnet ? localnetMark : '"loopback from elsewhere"';
  return append(localnetChain, [`-s 127.0.0.0/8 ! -i lo -m comment --comment ${comment} -j DROP`]);
}

function staticChains(options: RenderOptions): { table: Table; chain: string; text: string }[] {
  const invalid = `-m conntrack --ctstate INVALID ${countedBy(packetCounters.invalidDropped, options)}-j DROP`;
  const onLoopback = countedBy(packetCounters.localhostNodePorts, options);
  const forward = [
    ...(options.tolerateInvalid ? [] : [invalid]),
    `-m comment --comment "kubernetes forwarding rules" -m mark --mark ${mark} -j ACCEPT`,
    '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-m conntrack --ctstate DNAT -j KUBE-HAIRPIN',
  ];
  const postrouting = [
    // Only of what was sent on: a node that talks to itself without a Service keeps its address and port.
    '-m conntrack --ctstate DNAT -j KUBE-HAIRPIN',
    `-m mark ! --mark ${mark} -j RETURN`,
    // Of what is marked only node ports were sent to there.
    ...(onLoopback === '' || !options.localhostNodePorts
      ? []
      : [`-m conntrack --ctstate DNAT --ctorigdst 127.0.0.0/8 ${onLoopback}`.trimEnd()]),
    // Cleared, so that a packet that comes through the stack again is not masqueraded again.
    `-j MARK --set-xmark ${masqueradeMark}/0x0`,
    '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
  ];
  const chains = [
    { table: 'filter', chain: 'KUBE-FORWARD', text: append('KUBE-FORWARD', forward) },
    {
      table: 'nat',
      chain: 'KUBE-MARK-MASQ',
      text: append('KUBE-MARK-MASQ', [`-j MARK --set-xmark ${mark}`]),
    },
    { table: 'nat', chain: 'KUBE-POSTROUTING', text: append('KUBE-POSTROUTING', postrouting) },
  ] as const;
  const localnet = [
    { table: 'filter', chain: 'KUBE-FIREWALL', text: append('KUBE-FIREWALL', [localnetRule]) },
    { table: 'filter', chain: localnetChain, text: localnetRules(options) },
  ] as const;
  return options.localhostNodePorts ? [...chains, ...localnet] : [...chains];
}

function servicesEnds(options: RenderOptions): { head: string[]; tail: string[] } {
  const marking = marksAtHead(options);
  const notFromPod = options.masqueradeAll ? '' : `! ${options.fromPod} `;
  const comment =
    '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"';
  const loopback = options.v6 ? '! -d ::1/128 ' : options.localhostNodePorts ? '' : '! -d 127.0.0.0/8 ';
  const hostBits = options.v6 ? '/128' : '/32';
  const nodePorts =
    options.nodePortAddresses === undefined
      ? [`${loopback}${comment} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`]
      : options.nodePortAddresses.map((address) => `-d ${address}${hostBits} ${comment} -j KUBE-NODEPORTS`);
  return {
    head: marking ? [`${notFromPod}-j KUBE-MARK-MASQ`] : [],
    // What no Service took is not masqueraded.
    tail: [
      ...nodePorts,
      ...(marking ? [`${options.masqueradeAll ? '' : `! ${options.fromPod} `}${unmark}`] : []),
    ],
  };
}

/**
 * All the rules that should stand, kept up to date Service by Service. {@link flush} names the chains that changed
 * since the last call, so that the caller writes only those.
 */
export class Ruleset {
  readonly chains: Readonly<Record<Table, Chains>> = { nat: new Map(), filter: new Map() };
  private readonly shared: Readonly<Record<Table, Map<string, SharedChain>>> = {
    nat: new Map(),
    filter: new Map(),
  };
  private readonly guard = new GuardedPorts();
  private readonly fragments = new Map<string, readonly Fragment[]>();
  /** Which Service a chain of table nat belongs to: to find the culprit when the kernel refuses it. */
  private readonly owners = new Map<string, string>();
  private readonly touched: Readonly<Record<Table, Set<string>>> = { nat: new Set(), filter: new Set() };

  constructor(options: RenderOptions) {
    for (const { table, chain } of sharedChains) this.shared[table].set(chain, new SharedChain(chain));
    this.sharedChain('filter', 'KUBE-SERVICES').setEnds(
      [],
      [`-m conntrack ! --ctstate DNAT -j ${guardChain}`],
    );
    this.configure(options);
  }

  /** Sets what depends on the configuration and the node's addresses only. Services keep their rules. */
  configure(options: RenderOptions): void {
    for (const { table, chain, text } of staticChains(options)) this.set(table, chain, text);
    const { head, tail } = servicesEnds(options);
    this.sharedChain('nat', 'KUBE-SERVICES').setEnds(head, tail);
    const hairpin = options.matches.includes('bpf') ? [`${toItself(options.v6)} `] : [];
    for (const table of tables) {
      const rules = hairpin.map((match) => match + hairpinActions[table]);
      this.sharedChain(table, 'KUBE-HAIRPIN').setEnds(rules, []);
    }
  }

  /** True when some Service has a node port with an endpoint behind it. */
  get hasNodePorts(): boolean {
    return !this.sharedChain('nat', 'KUBE-NODEPORTS').isEmpty;
  }

  /** The Service a line of the document comes from; undefined when it comes from none. */
  ownerOf(line: string): string | undefined {
    const chain = /^(?:-A |:)(\S+)/.exec(line)?.[1];
    if (chain === undefined) return undefined;
    const owner = this.owners.get(chain);
    if (owner !== undefined) return owner;
    for (const [key, fragments] of this.fragments) {
      const leadsHere = ({ shared, guarded }: Fragment): boolean =>
        shared.some((rule) => line.includes(` ${rule.match} `) && line.endsWith(rule.action)) ||
        (guarded !== undefined && line === guardRule(guarded));
      if (fragments.some(leadsHere)) return key;
    }
    return undefined;
  }

  /** True for the cluster address of a Service that has endpoints. */
  guards(address: string): boolean {
    return this.guard.hasAddress(address);
  }

  services(): Iterable<string> {
    return this.fragments.keys();
  }

  /** True for a Service with source ranges: its rules name addresses of the node. */
  isFirewalled(key: string): boolean {
    const fragments = this.fragments.get(key) ?? [];
    return fragments.some(({ chains }) => chains.some(([name]) => name.startsWith('KUBE-FW-')));
  }

  /** Replaces everything one Service contributes. */
  setService(key: string, fragments: readonly Fragment[]): void {
    const before = this.fragments.get(key) ?? [];
    const stale = new Set(before.flatMap(({ chains }) => chains.map(([name]) => name)));
    for (const fragment of fragments) {
      for (const rule of fragment.shared) this.sharedChain(rule.table, rule.chain).add(rule);
      if (fragment.guarded !== undefined) this.guard.add(fragment.guarded);
      for (const one of fragment.chains) {
        const name = one[0];
        stale.delete(name);
        this.owners.set(name, key);
        this.set('nat', name, one[1]);
      }
    }
    // After the new ones, so that a rule that stays is not touched: its chain may have a thousand.
    for (const fragment of before) {
      for (const rule of fragment.shared) this.sharedChain(rule.table, rule.chain).remove(rule);
      if (fragment.guarded !== undefined) this.guard.remove(fragment.guarded);
    }
    for (const name of stale) {
      this.owners.delete(name);
      this.set('nat', name, undefined);
    }
    if (fragments.length === 0) this.fragments.delete(key);
    else this.fragments.set(key, fragments);
  }

  /**
   * The chains of table nat that changed and are complete before {@link flush}, which will not name them again: those of
   * Services, which lead to nothing but each other and KUBE-MARK-MASQ, and that one.
   */
  takeComplete(): string[] {
    const isComplete = (name: string): boolean =>
      this.chains.nat.has(name) && (this.owners.has(name) || name === 'KUBE-MARK-MASQ');
    const names = [...this.touched.nat].filter(isComplete);
    for (const name of names) this.touched.nat.delete(name);
    return names;
  }

  /** The chains that changed (or are gone) since the last call. */
  flush(): Readonly<Record<Table, ReadonlySet<string>>> {
    for (const table of tables)
      for (const chain of this.shared[table].values())
        chain.flush((name, text) => this.set(table, name, text));
    const guard = this.guard.flush();
    if (guard !== undefined) this.set('filter', guardChain, guard);
    const changed = { nat: new Set(this.touched.nat), filter: new Set(this.touched.filter) };
    this.touched.nat.clear();
    this.touched.filter.clear();
    return changed;
  }

  private sharedChain(table: Table, name: string): SharedChain {
    return this.shared[table].get(name)!;
  }

  private set(table: Table, name: string, text: string | undefined): void {
    const chains = this.chains[table];
    if (chains.get(name) === text && (text !== undefined || !chains.has(name))) return;
    if (text === undefined) chains.delete(name);
    else chains.set(name, text);
    this.touched[table].add(name);
  }
}
