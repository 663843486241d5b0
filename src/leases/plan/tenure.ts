import { type Lease, sameLease } from './lease.ts';

/**
 * For so long what is said of a subnet has to stand before it is followed in the place of what was said before. Its
 * owner, where it lives, has put the right value back by then.
 */
export const TENURE_MS = 2000;

/** A lease that says something else than what is followed, or is not there any more. */
interface Departure {
  /** What is followed still, marked as leaving. */
  readonly believed: Lease;
  /** The lease before it left. */
  readonly original: Lease;
  /** Milliseconds by the monotonic clock. */
  readonly since: number;
  /** False where it has no entries any more; it is remembered all the same. */
  readonly kept: boolean;
}

/** What a source says of one lease now. */
export interface Said {
  /** Undefined where the key is gone, or cannot be read. */
  readonly lease: Lease | undefined;
  /** The key is gone, and it was an administrator's: it ends at once, and nobody is put in its place at once. */
  readonly given?: boolean;
}

/** What is said, but for those who leave: while one of thousands does, nobody needs a copy of them all. */
class Followed implements ReadonlyMap<string, Lease> {
  private readonly said: ReadonlyMap<string, Lease>;
  private readonly departures: ReadonlyMap<string, Departure>;

  constructor(said: ReadonlyMap<string, Lease>, departures: ReadonlyMap<string, Departure>) {
    this.said = said;
    this.departures = departures;
  }

  get(name: string): Lease | undefined {
    const departure = this.departures.get(name);
    if (departure === undefined) return this.said.get(name);
    return departure.kept ? departure.believed : undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  get size(): number {
    let size = this.said.size;
    for (const [name, { kept }] of this.departures) size += Number(kept) - Number(this.said.has(name));
    return size;
  }

  *entries(): MapIterator<[string, Lease]> {
    for (const entry of this.said) {
      const departure = this.departures.get(entry[0]);
      if (departure === undefined) yield entry;
      else if (departure.kept) yield [entry[0], departure.believed];
    }
    for (const [name, { believed, kept }] of this.departures)
      if (kept && !this.said.has(name)) yield [name, believed];
  }

  [Symbol.iterator](): MapIterator<[string, Lease]> {
    return this.entries();
  }

  *keys(): MapIterator<string> {
    for (const [name] of this.entries()) yield name;
  }

  *values(): MapIterator<Lease> {
    for (const [, lease] of this.entries()) yield lease;
  }

  forEach(call: (lease: Lease, name: string, map: ReadonlyMap<string, Lease>) => void): void {
    for (const [name, lease] of this.entries()) call(lease, name, this);
  }
}

/**
 * Who has been believed keeps being believed for a moment. Whoever may write all leases, as the role that flanneld needs
 * lets every node, can write over another's or delete it and take its subnet; its owner writes it back as soon as it sees
 * that. Nobody may follow what stands in between, whatever it is; what nobody disputes is followed a moment later.
 */
export class Tenure {
  private readonly departures = new Map<string, Departure>();
  private readonly works: (lease: Lease) => boolean;

  /** @param works false of a lease that is of no use as it is: there is nothing to be kept then */
  constructor(works: (lease: Lease) => boolean) {
    this.works = works;
  }

  /**
   * Takes in what the source says of a lease.
   * @param before what it said before
   * @param now milliseconds by the monotonic clock
   * @returns the lease as it is now; one that has come back is the one that it was, with its place in the order
   */
  said(name: string, before: Lease | undefined, { lease, given }: Said, now: number): Lease | undefined {
    const departure = this.departures.get(name);
    const original = departure?.original ?? before;
    if (original === undefined) return lease;
    if (lease !== undefined && sameLease(original, lease)) {
      this.departures.delete(name);
      return original;
    }
    if (departure === undefined && this.works(original)) {
      const believed = { ...original, leaving: true };
      this.departures.set(name, { believed, original, since: now, kept: given !== true });
    }
    return lease;
  }

  /** What is said of the lease is so by our own doing: it is followed at once. */
  settle(name: string): void {
    this.departures.delete(name);
  }

  /** Leases that are followed although they are said otherwise now. */
  leaving(): Lease[] {
    return [...this.departures.values()].filter(({ kept }) => kept).map(({ believed }) => believed);
  }

  /** What is to be followed. @param said all leases as they are said to be */
  followed(said: ReadonlyMap<string, Lease>): ReadonlyMap<string, Lease> {
    return this.departures.size === 0 ? said : new Followed(said, this.departures);
  }

  /** Forgets those whose time is over. @returns their names */
  expire(now: number): ReadonlySet<string> {
    const names = new Set<string>();
    for (const [name, { since }] of this.departures) {
      if (now - since < TENURE_MS) break; // in the order in which they left
      this.departures.delete(name);
      names.add(name);
    }
    return names;
  }

  /** When {@link expire} has something to do again; undefined while nothing leaves. */
  get next(): number | undefined {
    const [first] = this.departures.values();
    return first === undefined ? undefined : first.since + TENURE_MS;
  }
}
