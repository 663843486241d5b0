import { TwillError } from '../../../model/error.ts';
import { type Chain, pickChain, shapeChain, sharedChains } from './chains.ts';
import { Claims } from './claims.ts';
import { type Arrangement, arrange, endpointElements, numberSlots } from './endpoints.ts';
import { localIndex, mostPorts, mostShapes, type SetName, setNames, shapeBits } from './names.ts';
import type { RenderOptions } from './options.ts';
import { ownerOf } from './owners.ts';
import { packAddress, packNumber, unpackNumber } from './pack.ts';
import { type Claim, type PortRules, unserved } from './service-rules.ts';
import { type Pick, pickName, picksOf, type Shape, shapeName } from './shapes.ts';

/** Elements by set: key to data, which is '' in a set. */
export type Elements = Record<SetName, Map<string, string>>;

export function noElements(): Elements {
  return Object.fromEntries(setNames.map((name) => [name, new Map<string, string>()])) as Elements;
}

/** What an earlier run left, to be taken over: who has which number. */
export interface Standing {
  readonly elements: Elements;
  /** Chain names by number. */
  readonly shapes: ReadonlyMap<number, string>;
}

interface Port {
  readonly rules: PortRules;
  readonly serial: number;
  readonly arrangement: Arrangement;
  readonly slots: ReadonlyMap<string, number> | undefined;
}

const nowhere: Arrangement = { cluster: [], local: [] };

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
  readonly elements = noElements();
  private options: RenderOptions;
  private touched = new Map<SetName, Set<string>>();
  /** What goes with the change that is under way, unless it comes again. */
  private readonly dropped = new Map<SetName, Set<string>>();
  /** Not before the first look: everything is compared then. */
  private notes = false;
  private readonly services = new Map<string, readonly PortRules[]>();
  private readonly ports = new Map<string, Port>();
  private readonly serials = new Map<number, string>();
  private nextSerial = 1;
  private readonly claims: Claims;
  private readonly shapes = new Map<string, { readonly shape: Shape; readonly number: number }>();
  private readonly shapeNames = new Map<number, string>();
  private readonly hairpins = new Shared();
  private readonly clusterIPs = new Shared();
  private readonly served = new Shared();
  private standing: Standing | undefined;
  private nodePorts = 0;
  /** What {@link chains} has said, until something of it changes. */
  private knownChains: Chain[] | undefined;
  /** Those of them that depend on numbers of endpoints, of which there may be thousands. */
  private readonly numbered = new Map<string, Chain>();
  /** Shapes that there were when those nobody uses were last forgotten. */
  private shapesKept = 0;

  constructor(options: RenderOptions) {
    this.options = options;
    this.claims = new Claims(
      (set, key, data) => this.put(set, key, data),
      (set, key) => this.drop(set, key),
    );
    this.configure(options);
  }

  /** Sets what depends on the configuration and the node's addresses only. Services keep their elements. */
  configure(options: RenderOptions): void {
    this.options = options;
    this.knownChains = undefined;
    this.numbered.clear();
    const wanted = new Set((options.nodePortAddresses ?? []).map(packAddress));
    for (const key of this.elements['node-addresses'].keys()) {
      if (wanted.has(key)) continue;
      this.elements['node-addresses'].delete(key);
      this.touch('node-addresses', key);
    }
    for (const key of wanted) this.put('node-addresses', key, '');
  }

  /** Takes over the numbers that an earlier run has given. */
  adopt(standing: Standing | undefined): void {
    this.standing = standing;
    if (standing === undefined) return;
    for (const data of standing.elements.services.values()) this.skipSerial(data);
    for (const data of standing.elements['node-ports'].values()) this.skipSerial(data);
  }

  /** The chains that should be, those with a hook last; the same list as before where nothing of it has changed. */
  chains(): readonly Chain[] {
    this.knownChains ??= this.makeChains();
    return this.knownChains;
  }

  private makeChains(): Chain[] {
    const picks = new Map<string, Pick>();
    const shapes = [...this.shapes].map(([name, { shape }]) => {
      for (const pick of picksOf(shape)) picks.set(pickName(pick), pick);
      return this.made(name, () => shapeChain(shape, pickName, this.options));
    });
    const choosing = [...picks].map(([name, pick]) =>
      this.made(name, () => pickChain(name, pick, this.options)),
    );
    return [...choosing, ...shapes, ...sharedChains(this.options)];
  }

  private made(name: string, make: () => Chain): Chain {
    const chain = this.numbered.get(name) ?? make();
    this.numbered.set(name, chain);
    return chain;
  }

  /** Chain names by number. */
  shapeChains(): ReadonlyMap<number, string> {
    return this.shapeNames;
  }

  get serviceCount(): number {
    return this.services.size;
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
    const { services, serials, options } = this;
    const claimant = this.claims.claimant.bind(this.claims);
    return ownerOf(set, key, { services, serials, claimant, v6: options.v6 });
  }

  /**
   * Replaces everything one Service contributes.
   * @throws TwillError `exhausted` when there are no more numbers; nothing was changed then
   */
  setService(key: string, rules: readonly PortRules[]): void {
    this.reserve(rules);
    const before = this.services.get(key) ?? [];
    const kept = new Set(rules.map(({ id }) => id));
    for (const port of before) this.withdraw(port, kept.has(port.id));
    for (const port of rules) this.install(port);
    for (const [set, keys] of this.dropped) {
      for (const key of keys) {
        this.elements[set].delete(key);
        this.touch(set, key);
      }
      keys.clear();
    }
    if (rules.length === 0) this.services.delete(key);
    else this.services.set(key, rules);
  }

  /** The elements that may have changed since the last call. */
  takeTouched(): ReadonlyMap<SetName, ReadonlySet<string>> {
    const { touched } = this;
    this.notes = true;
    this.touched = new Map();
    return touched;
  }

  /** Shapes that no address leads to are forgotten; to be called when their chains can go. */
  pruneShapes(): void {
    const used = new Set<number>();
    for (const set of ['services', 'node-ports'] as const)
      for (const data of this.elements[set].values()) used.add(unpackNumber(data) & mostShapes);
    for (const [name, { number }] of this.shapes) {
      if (used.has(number)) continue;
      this.shapes.delete(name);
      this.shapeNames.delete(number);
      this.knownChains = undefined;
    }
    this.shapesKept = this.shapes.size;
    if (this.knownChains === undefined) this.numbered.clear();
  }

  /** Whether so many shapes have come that it is time to forget those nobody uses: numbers for them are few. */
  get isCrowded(): boolean {
    return this.shapes.size - this.shapesKept >= CROWD;
  }

  /** Makes sure that there are numbers for all of these. */
  private reserve(rules: readonly PortRules[]): void {
    const coming = rules.filter(({ id }) => !this.ports.has(id)).length;
    if (this.serials.size + coming > mostPorts)
      throw new TwillError('exhausted', `more than ${mostPorts} ports of Services`);
    for (const { claims } of rules)
      for (const { shape } of claims) if (shape !== undefined) this.shapeNumber(shape);
  }

  private install(rules: PortRules): void {
    const known = this.ports.get(rules.id);
    const serial = known?.serial ?? this.takeSerial(rules);
    const base = (serial << shapeBits) >>> 0;
    const old = known ?? this.standingPort(rules, base);
    const arrangement: Arrangement = {
      cluster: arrange(old.arrangement.cluster, rules.backends.cluster),
      local: arrange(old.arrangement.local, rules.backends.local),
    };
    const slots = rules.sticky
      ? numberSlots(old.slots ?? new Map(), [...rules.backends.cluster, ...rules.backends.local])
      : undefined;
    this.ports.set(rules.id, { rules, serial, arrangement, slots });
    const place = { base, protocol: rules.protocol };
    endpointElements(place, arrangement, slots, (set, key, data) => this.put(set, key, data));
    for (const claim of rules.claims) {
      const target = claim.shape === undefined ? undefined : (base | this.shapeNumber(claim.shape)) >>> 0;
      this.claims.add({ id: rules.id, name: rules.name, claim, target });
      if (claim.space === 'node') this.nodePorts++;
    }
    this.share(rules, 1);
  }

  /** @param comesBack the port is to be installed anew: it keeps its number */
  private withdraw(rules: PortRules, comesBack: boolean): void {
    const port = this.ports.get(rules.id);
    if (port?.rules !== rules) return;
    const base = (port.serial << shapeBits) >>> 0;
    const place = { base, protocol: rules.protocol };
    endpointElements(place, port.arrangement, port.slots, (set, key) => this.drop(set, key));
    for (const claim of rules.claims) {
      this.claims.remove({ id: rules.id, claim });
      if (claim.space === 'node') this.nodePorts--;
    }
    this.share(rules, -1);
    if (comesBack) return;
    this.ports.delete(rules.id);
    this.serials.delete(port.serial);
  }

  private share(rules: PortRules, by: 1 | -1): void {
    const change = (set: 'hairpin' | 'cluster-ips', of: Shared, key: string, element: string): void => {
      if (!of.count(key, by)) return;
      if (by === 1) this.put(set, element, '');
      else this.drop(set, element);
    };
    for (const address of rules.hairpins) change('hairpin', this.hairpins, address, address + address);
    change('cluster-ips', this.clusterIPs, rules.clusterIP, rules.clusterIP);
    if (rules.served) this.served.count(rules.clusterIP, by);
  }

  private takeSerial({ id, claims }: PortRules): number {
    const before = this.standingSerial(claims);
    let serial = before !== 0 && !this.serials.has(before) ? before : 0;
    while (serial === 0) {
      if (!this.serials.has(this.nextSerial)) serial = this.nextSerial;
      this.nextSerial = this.nextSerial >= mostPorts ? 1 : this.nextSerial + 1;
    }
    this.serials.set(serial, id);
    return serial;
  }

  /** The number that led on from one of these in an earlier run; 0 for none. */
  private standingSerial(claims: readonly Claim[]): number {
    if (this.standing === undefined) return 0;
    // A cluster address and a node port are one Service's alone.
    for (const { space, key } of [...claims].sort((a, b) => ownership(a) - ownership(b))) {
      const data = this.standing.elements[space === 'address' ? 'services' : 'node-ports'].get(key);
      if (data !== undefined) return unpackNumber(data) >>> shapeBits;
    }
    return 0;
  }

  private skipSerial(data: string): void {
    this.nextSerial = Math.max(this.nextSerial, (unpackNumber(data) >>> shapeBits) + 1);
    if (this.nextSerial > mostPorts) this.nextSerial = 1;
  }

  /** How an earlier run had numbered the endpoints of what had this number. */
  private standingPort({ sticky, protocol }: PortRules, base: number): Numbering {
    const { standing } = this;
    if (standing === undefined) return { arrangement: nowhere, slots: undefined };
    const name: SetName = sticky ? 'slots' : `endpoints-${protocol}`;
    const set = standing.elements[name];
    const slots = new Map<string, number>();
    const list = (first: number, of: 'sticky' | 'sticky-local'): string[] => {
      const found: string[] = [];
      for (let index = 0; ; index++) {
        const data = set.get(packNumber(base) + packNumber(first + index));
        const backend = sticky && data !== undefined ? standing.elements[of].get(data) : data;
        if (data === undefined || backend === undefined) return found;
        if (sticky) slots.set(backend, unpackNumber(data) & mostShapes);
        found.push(backend);
      }
    };
    const arrangement = { cluster: list(0, 'sticky'), local: list(localIndex, 'sticky-local') };
    return { arrangement, slots: sticky ? slots : undefined };
  }

  private shapeNumber(shape: Shape): number {
    const name = shapeName(shape);
    const known = this.shapes.get(name);
    if (known !== undefined) return known.number;
    const number = this.freeShape(name);
    this.shapes.set(name, { shape, number });
    this.shapeNames.set(number, name);
    this.knownChains = undefined;
    return number;
  }

  private freeShape(name: string): number {
    const before = [...(this.standing?.shapes ?? [])].find(([, chain]) => chain === name)?.[0];
    if (before !== undefined && !this.shapeNames.has(before)) return before;
    const isFree = (number: number): boolean =>
      !this.shapeNames.has(number) && this.standing?.shapes.has(number) !== true;
    for (let number = 1; number <= mostShapes; number++) if (isFree(number)) return number;
    throw new TwillError('exhausted', `Services have more than ${mostShapes} different numbers of endpoints`);
  }

  private put(set: SetName, key: string, data: string): void {
    const all = this.elements[set];
    // Nearly all of a Service's elements stay as they were: nobody has to look at these.
    if (this.dropped.get(set)?.delete(key) === true && all.get(key) === data) return;
    all.set(key, data);
    this.touch(set, key);
  }

  private drop(set: SetName, key: string): void {
    let keys = this.dropped.get(set);
    if (keys === undefined) {
      keys = new Set();
      this.dropped.set(set, keys);
    }
    keys.add(key);
  }

  private touch(set: SetName, key: string): void {
    if (!this.notes) return;
    let keys = this.touched.get(set);
    if (keys === undefined) {
      keys = new Set();
      this.touched.set(set, keys);
    }
    keys.add(key);
  }
}

const CROWD = mostShapes >> 2;

const ownership = ({ space, rank }: Claim): number => (space === 'node' ? 1 : rank % unserved === 0 ? 0 : 2);

type Numbering = Omit<Port, 'rules' | 'serial'>;
