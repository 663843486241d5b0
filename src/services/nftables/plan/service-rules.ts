/** What one Service port asks for: its endpoints, and the addresses and ports that lead to them. */
import { parseAddress, parsePrefix, prefixContains, prefixSize } from '../../../model/address.ts';
import { hairpinAddresses, servesCluster, servesExternal } from '../../plan/reach.ts';
import { type Backend, isExternal, type ServicePortEntry } from '../../plan/table.ts';
import { localIndex, mostSlots } from './names.ts';
import type { RenderOptions } from './options.ts';
import { packAddress, packPort, packProtocol, packRange } from './pack.ts';
import type { Pick, Region, Shape } from './shapes.ts';

/** An address and port, or a node port, that a Service claims. Of several claims to one the first counts. */
export interface Claim {
  readonly space: 'address' | 'node';
  readonly key: string;
  /** Lower goes first: what is served before what is not, then a Service's own address before another one's claim. */
  readonly rank: number;
  /** How it is served; undefined when it is not. */
  readonly shape: Shape | undefined;
  /** What becomes of connections that are not sent on. */
  readonly refusal: 'reject' | 'drop' | undefined;
  /** Only these may use it, each the first and last address. */
  readonly sources: readonly string[] | undefined;
}

/** One Service port, ready for {@link Ruleset}. */
export interface PortRules {
  /** The same for a port of a Service as long as it is one. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  readonly protocol: Pick['protocol'];
  readonly backends: Readonly<Record<Region, readonly string[]>>;
  readonly sticky: boolean;
  readonly claims: readonly Claim[];
  readonly hairpins: readonly string[];
  readonly clusterIP: string;
  /** Connections to the cluster address are sent on. */
  readonly served: boolean;
}

/** Added to the rank of what is not served. */
export const unserved = 8;

class PortBuilder {
  private readonly entry: ServicePortEntry;
  private readonly options: RenderOptions;
  private readonly protocol: string;
  private readonly lower: Pick['protocol'];
  private readonly backends: Readonly<Record<Region, readonly string[]>>;
  private readonly claims: Claim[] = [];

  constructor(entry: ServicePortEntry, options: RenderOptions) {
    this.entry = entry;
    this.options = options;
    this.protocol = packProtocol(entry.protocol);
    this.lower = entry.protocol.toLowerCase() as Pick['protocol'];
    this.backends = {
      cluster: this.packBackends(entry.clusterBackends),
      local: this.packBackends(entry.localBackends),
    };
  }

  build(): PortRules {
    const { entry } = this;
    this.clusterIP();
    if (isExternal(entry)) this.external();
    return {
      id: `${entry.name}/${entry.protocol}`,
      name: entry.name,
      protocol: this.lower,
      backends: this.backends,
      sticky: entry.affinitySeconds > 0,
      claims: this.claims,
      hairpins: [...hairpinAddresses(entry)].map(packAddress),
      clusterIP: packAddress(entry.clusterIP),
      served: servesCluster(entry),
    };
  }

  private packBackends(backends: readonly Backend[]): string[] {
    const most = this.entry.affinitySeconds > 0 ? mostSlots >> 1 : localIndex;
    return backends.slice(0, most).map(({ address, port }) => packAddress(address) + packPort(port));
  }

  private pick(region: Region): Pick | undefined {
    const count = this.backends[region].length;
    if (count === 0) return undefined;
    return { protocol: this.lower, region, count, sticky: this.entry.affinitySeconds };
  }

  /** What happens to traffic that finds no endpoint: nobody has one, or only this node has none. */
  private refusal(served: boolean): Claim['refusal'] {
    if (served) return undefined;
    return this.entry.hasEndpoints ? 'drop' : 'reject';
  }

  private addressKey(address: string): string {
    return packAddress(address) + this.protocol + packPort(this.entry.port);
  }

  private clusterIP(): void {
    const { entry } = this;
    const pick = this.pick(entry.internalLocal ? 'local' : 'cluster');
    this.claims.push({
      space: 'address',
      key: this.addressKey(entry.clusterIP),
      rank: pick === undefined ? unserved : 0,
      shape: pick && { kind: 'cluster', pick },
      refusal: this.refusal(pick !== undefined),
      sources: undefined,
    });
  }

  private externalShape(): Shape | undefined {
    const [here, anywhere] = [this.pick('local'), this.pick('cluster')];
    if (!this.entry.externalLocal) return anywhere && { kind: 'external', pick: anywhere };
    if (here === undefined && anywhere === undefined) return undefined;
    return { kind: 'local', here, anywhere };
  }

  private external(): void {
    const { entry } = this;
    const shape = this.externalShape();
    const refusal = this.refusal(servesExternal(entry));
    // Whoever may not use an address is turned away also where nobody serves it, as with kube-proxy in this mode.
    const sources = this.sources();
    const claim = (space: Claim['space'], key: string, rank: number, from?: readonly string[]): void => {
      this.claims.push({
        space,
        key,
        rank: shape === undefined ? unserved + rank : rank,
        shape,
        refusal,
        sources: from,
      });
    };
    // Also where it is an external address as well, as with kube-proxy in this mode.
    const balanced = new Set(entry.loadBalancerIPs);
    for (const address of new Set(entry.externalIPs))
      claim('address', this.addressKey(address), 1, balanced.has(address) ? sources : undefined);
    for (const address of balanced) claim('address', this.addressKey(address), 2, sources);
    if (entry.nodePort !== 0) claim('node', this.protocol + packPort(entry.nodePort), 3);
  }

  private sources(): string[] | undefined {
    const { sourceRanges, loadBalancerIPs } = this.entry;
    if (sourceRanges.length === 0 || loadBalancerIPs.length === 0) return undefined;
    const own = this.options.nodeAddresses.map(parseAddress);
    const ranges = sourceRanges.map(parsePrefix);
    // A node that holds the load balancer's address itself reaches it from that address.
    if (ranges.some((range) => own.some((address) => prefixContains(range, address))))
      ranges.push(
        ...loadBalancerIPs.map((address) => parsePrefix(`${address}/${this.options.v6 ? 128 : 32}`)),
      );
    return withoutOverlaps(ranges).map((range) => {
      const first = range.address.value;
      const { last, first: from } = packRange({
        first,
        last: first + prefixSize(range) - 1n,
        bytes: range.family.bytes,
      });
      return from + last;
    });
  }
}

type Ranges = ReturnType<typeof parsePrefix>[];

/** The kernel refuses ranges that overlap. Networks do so only when one holds the other, which then begins before it. */
function withoutOverlaps(ranges: Ranges): Ranges {
  const inOrder = [...ranges].sort((a, b) => {
    const [one, other] = [a.address.value, b.address.value];
    return one === other ? a.length - b.length : one < other ? -1 : 1;
  });
  const kept: Ranges = [];
  for (const range of inOrder) {
    const before = kept.at(-1);
    if (before === undefined || !prefixContains(before, range.address)) kept.push(range);
  }
  return kept;
}

/** @returns what one Service port asks for; valid input cannot make it fail */
export function renderServicePort(entry: ServicePortEntry, options: RenderOptions): PortRules {
  return new PortBuilder(entry, options).build();
}
