import { TwillError } from '../../../model/error.ts';
import type { Chain } from './chains.ts';
import { Claims } from './claims.ts';
import { type Elements, WantedElements } from './elements.ts';
import { arrange, changedEndpoints, endpointElements, numberSlots } from './endpoints.ts';
import { mostPorts, mostShapes, type SetName, shapeBits } from './names.ts';
import type { RenderOptions } from './options.ts';
import { ownerOf } from './owners.ts';
import { packAddress, unpackNumber } from './pack.ts';
import { Serials } from './serials.ts';
import type { PortRules } from './service-rules.ts';
import { ShapeChains } from './shape-chains.ts';
import { type Numbering, standingNumbering, standingSerial, unnumbered } from './standing-numbers.ts';

/** What an earlier run left, to be taken over: who has which number. */
export interface Standing {
  readonly elements: Elements;
  /** Chain names by number. */
  readonly shapes: ReadonlyMap<number, string>;
}

interface Port extends Numbering {
  readonly rules: PortRules;
  readonly serial: number;
}

/** Sets that lead from where packets come in to a Service port and a shape. */
const leading = ['services', 'node-ports'] as const;

/** Whether only those endpoints that come and go are looked at: not with session affinity, where each has two elements. */
function staysInPart({ slots }: Port, next: PortRules): boolean {
  return slots === undefined && !next.sticky;
}

/** Counts who wants an element that several Services may want. */
class Shared {
  private readonly counts = new Map<string, number>();

  has(key: string): boolean {
    return this.counts.has(key);
  }

  /** @returns true when it is wanted by nobody any more, or by somebody for the first time */
  count(key: string, by: 1 | -1): boolean {
    const count = (this.counts.get(key) ?? 0) + by;
    if (count === 0) this.counts.delete(key);
    else this.counts.set(key, count);
    return count === 0 || (count === 1 && by === 1);
  }
}

/**
 * All that should stand, kept up to date Service by Service: elements in sets, and the few chains. {@link takeTouched}
 * names the elements that may have changed, so that the caller compares only those.
 */
export class Ruleset {
  private options: RenderOptions;
  private readonly wanted = new WantedElements();
  private readonly services = new Map<string, readonly PortRules[]>();
  private readonly ports = new Map<string, Port>();
  private readonly serials = new Serials();
  private readonly shapes: ShapeChains;
  private readonly claims = new Claims(
    (set, key, data) => this.wanted.put(set, key, data),
    (set, key) => this.wanted.drop(set, key),
  );
  private readonly hairpins = new Shared();
  private readonly clusterIPs = new Shared();
  private readonly served = new Shared();
  private standing: Elements | undefined;
  private nodePorts = 0;

  constructor(options: RenderOptions) {
    this.options = options;
    this.shapes = new ShapeChains(options);
    this.configure(options);
  }

  /** Sets what depends on the configuration and the node's addresses only. Services keep their elements. */
  configure(options: RenderOptions): void {
    this.options = options;
    this.shapes.configure(options);
    for (const key of this.elements['node-addresses'].keys()) this.wanted.drop('node-addresses', key);
    for (const address of options.nodePortAddresses ?? [])
      this.wanted.put('node-addresses', packAddress(address), '');
    this.wanted.settle();
  }

  get elements(): Elements {
    return this.wanted.all;
  }

  /** The elements that may have changed since the last call. */
  takeTouched(): ReadonlyMap<SetName, ReadonlySet<string>> {
    return this.wanted.takeTouched();
  }

  /** Takes over the numbers that an earlier run has given; undefined when all that stays is taken over. */
  adopt(standing: Standing | undefined): void {
    this.standing = standing?.elements;
    this.shapes.adopt(standing?.shapes ?? new Map());
    for (const set of leading)
      for (const data of standing?.elements[set].values() ?? [])
        this.serials.skip(unpackNumber(data) >>> shapeBits);
  }

  /** The chains that should be, those with a hook last; the same list as before where nothing of it has changed. */
  chains(): readonly Chain[] {
    return this.shapes.chains();
  }

  /** Chain names by number. */
  shapeChains(): ReadonlyMap<number, string> {
    return this.shapes.byNumber;
  }

  /** Shapes that no address leads to are forgotten; to be called when their chains can go. */
  pruneShapes(): void {
    const used = new Set<number>();
    for (const set of leading)
      for (const data of this.elements[set].values()) used.add(unpackNumber(data) & mostShapes);
    this.shapes.prune(used);
  }

  /** Whether it is time for {@link pruneShapes}. */
  get isCrowded(): boolean {
    return this.shapes.isCrowded;
  }

  get hasNodePorts(): boolean {
    return this.nodePorts > 0;
  }

  keys(): Iterable<string> {
    return this.services.keys();
  }

  /** True for a Service with source ranges: its elements may name addresses of the node. */
  isFirewalled(key: string): boolean {
    return (this.services.get(key) ?? []).some(({ claims }) =>
      claims.some(({ sources }) => sources !== undefined),
    );
  }

  /** True for the cluster address of a Service that has endpoints. @param address canonical text */
  serves(address: string): boolean {
    return this.served.has(packAddress(address));
  }

  /** Whose an address or node port is. */
  holder(set: SetName, key: string): string | undefined {
    return this.claims.holder(set, key);
  }

  /** The Service that an element is there for: see {@link ownerOf}. */
  ownerOf(set: SetName, key: string): string | undefined {
    const { services, options } = this;
    const claimant = this.claims.claimant.bind(this.claims);
    return ownerOf(set, key, { services, serials: this.serials.holders, claimant, v6: options.v6 });
  }

  /**
   * Replaces everything one Service contributes.
   * @throws TwillError `exhausted` when there are no more numbers; nothing was changed then
   */
  setService(key: string, rules: readonly PortRules[]): void {
    this.reserve(rules);
    const before = this.services.get(key) ?? [];
    const coming = new Map(rules.map((port) => [port.id, port]));
    for (const port of before) this.withdraw(port, coming.get(port.id));
    for (const port of rules) this.install(port);
    this.wanted.settle();
    if (rules.length === 0) this.services.delete(key);
    else this.services.set(key, rules);
  }

  /** Makes sure that there are numbers for all of these. */
  private reserve(rules: readonly PortRules[]): void {
    const coming = rules.filter(({ id }) => !this.ports.has(id)).length;
    if (this.serials.lacks(coming))
      throw new TwillError('exhausted', `more than ${mostPorts} ports of Services`);
    for (const { claims } of rules)
      for (const { shape } of claims) if (shape !== undefined) this.shapes.numberOf(shape);
  }

  private install(rules: PortRules): void {
    const known = this.ports.get(rules.id);
    const serial = known?.serial ?? this.serials.take(rules.id, this.standingSerial(rules));
    const base = (serial << shapeBits) >>> 0;
    const old = known ?? this.standingNumbering(rules, base);
    const arrangement = {
      cluster: arrange(old.arrangement.cluster, rules.backends.cluster),
      local: arrange(old.arrangement.local, rules.backends.local),
    };
    const slots = rules.sticky
      ? numberSlots(old.slots ?? new Map(), [...rules.backends.cluster, ...rules.backends.local])
      : undefined;
    this.ports.set(rules.id, { rules, serial, arrangement, slots });
    const place = { base, protocol: rules.protocol };
    if (known !== undefined && staysInPart(known, rules))
      changedEndpoints(place, known.arrangement, arrangement, this.wanted);
    else endpointElements(place, arrangement, slots, (set, key, data) => this.wanted.put(set, key, data));
    for (const claim of rules.claims) {
      const target = claim.shape === undefined ? undefined : (base | this.shapes.numberOf(claim.shape)) >>> 0;
      this.claims.add({ id: rules.id, name: rules.name, claim, target });
      if (claim.space === 'node') this.nodePorts++;
    }
    this.share(rules, 1);
  }

  /** @param next what the port is to be from now on: it keeps its number */
  private withdraw(rules: PortRules, next: PortRules | undefined): void {
    const port = this.ports.get(rules.id);
    if (port?.rules !== rules) return;
    const base = (port.serial << shapeBits) >>> 0;
    const place = { base, protocol: rules.protocol };
    if (next === undefined || !staysInPart(port, next))
      endpointElements(place, port.arrangement, port.slots, (set, key) => this.wanted.drop(set, key));
    for (const claim of rules.claims) {
      this.claims.remove({ id: rules.id, claim });
      if (claim.space === 'node') this.nodePorts--;
    }
    this.share(rules, -1);
    if (next !== undefined) return;
    this.ports.delete(rules.id);
    this.serials.release(port.serial);
  }

  private share(rules: PortRules, by: 1 | -1): void {
    const change = (set: 'hairpin' | 'cluster-ips', of: Shared, key: string, element: string): void => {
      if (!of.count(key, by)) return;
      if (by === 1) this.wanted.put(set, element, '');
      else this.wanted.drop(set, element);
    };
    for (const address of rules.hairpins) change('hairpin', this.hairpins, address, address + address);
    change('cluster-ips', this.clusterIPs, rules.clusterIP, rules.clusterIP);
    if (rules.served) this.served.count(rules.clusterIP, by);
  }

  private standingSerial({ claims }: PortRules): number {
    return this.standing === undefined ? 0 : standingSerial(this.standing, claims);
  }

  private standingNumbering(rules: PortRules, base: number): Numbering {
    return this.standing === undefined ? unnumbered : standingNumbering(this.standing, rules, base);
  }
}
