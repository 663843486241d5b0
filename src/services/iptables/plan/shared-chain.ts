/**
 * The chains all Services share (KUBE-SERVICES, KUBE-NODEPORTS, …): one rule per address or port that leads to the
 * Service's own chain.
 *
 * Small ones are flat, as kube-proxy writes them. Above {@link FLAT_LIMIT} rules they are split by the low byte of the
 * address, or by blocks of 64 ports, and go without comments: a change then rewrites one small chain, a packet passes
 * some dozens of rules instead of thousands, and the kernel has a third less to validate at each change.
 */

export const FLAT_LIMIT = 1000;

/** Where a rule goes when its chain is split. */
export interface Bucket {
  /** Suffix of the bucket's chain, for example `a1f` or `p1d4`. */
  readonly id: string;
  /** Match that leads there. */
  readonly match: string;
}

export interface SharedRule {
  readonly table: 'nat' | 'filter';
  readonly chain: string;
  readonly bucket: Bucket;
  /** Rules of a lower class come first: a Service's own address goes before another one's claim to it. */
  readonly class: number;
  /** As iptables-save prints it, around the comment. */
  readonly match: string;
  readonly comment: string;
  readonly action: string;
}

function lowByteBucket(low: number, v6: boolean): Bucket {
  const hex = low.toString(16);
  const match = v6 ? `-d ::${low === 0 ? '' : hex}/::ff` : `-d 0.0.0.${low}/0.0.0.255`;
  return { id: `a${hex.padStart(2, '0')}`, match };
}

const lowBytes = Array.from({ length: 256 }, (_, low) => low);
const lowByteBuckets = {
  ipv4: lowBytes.map((low) => lowByteBucket(low, false)),
  ipv6: lowBytes.map((low) => lowByteBucket(low, true)),
};

/** Bucket of an address: its low byte, which is spread evenly however addresses are allocated. */
export function addressBucket(address: string, v6: boolean): Bucket {
  // The end of an IPv6 address may be written as an IPv4 one.
  const hexadecimal = v6 && !address.includes('.');
  const tail = address.slice(address.lastIndexOf(hexadecimal ? ':' : '.') + 1);
  const low = hexadecimal ? Number.parseInt(tail || '0', 16) & 255 : Number(tail);
  return lowByteBuckets[v6 ? 'ipv6' : 'ipv4'][low]!;
}

/** Bucket of a port: blocks of 64. @param protocol lower case */
export function portBucket(port: number, protocol: string): Bucket {
  const first = port & ~63;
  return {
    id: `p${(port >> 6).toString(16).padStart(3, '0')}`,
    match: `-p ${protocol} -m ${protocol} --dport ${first}:${first + 63}`,
  };
}

interface Entry {
  rule: SharedRule;
  count: number;
}

interface BucketState {
  readonly matches: Map<string, number>;
  readonly entries: Map<string, Entry>;
}

function ruleKey(rule: SharedRule): string {
  return `${rule.class}${rule.match} ${rule.comment} ${rule.action}`;
}

export class SharedChain {
  readonly name: string;
  private head: readonly string[] = [];
  private tail: readonly string[] = [];
  private readonly buckets = new Map<string, BucketState>();
  private readonly touched = new Set<string>();
  private size = 0;
  private topTouched = true;
  private large = false;

  constructor(name: string) {
    this.name = name;
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  /** Rules (without `-A CHAIN `) before and after all others. */
  setEnds(head: readonly string[], tail: readonly string[]): void {
    if (head.join('\n') === this.head.join('\n') && tail.join('\n') === this.tail.join('\n')) return;
    this.head = head;
    this.tail = tail;
    this.topTouched = true;
  }

  /** The same rule added twice (two Services share a local endpoint) stands once until both are removed. */
  add(rule: SharedRule): void {
    let bucket = this.buckets.get(rule.bucket.id);
    if (bucket === undefined) {
      bucket = { matches: new Map(), entries: new Map() };
      this.buckets.set(rule.bucket.id, bucket);
    }
    const key = ruleKey(rule);
    const entry = bucket.entries.get(key);
    this.countMatch(bucket, rule.bucket.match, 1);
    if (entry !== undefined) {
      entry.count++;
      // Of two that are alike the older one goes first.
      entry.rule = rule;
      return;
    }
    bucket.entries.set(key, { rule, count: 1 });
    this.size++;
    this.touched.add(rule.bucket.id);
  }

  remove(rule: SharedRule): void {
    const bucket = this.buckets.get(rule.bucket.id);
    const key = ruleKey(rule);
    const entry = bucket?.entries.get(key);
    if (bucket === undefined || entry === undefined) return;
    this.countMatch(bucket, rule.bucket.match, -1);
    if (--entry.count > 0) return;
    bucket.entries.delete(key);
    this.size--;
    this.touched.add(rule.bucket.id);
    if (bucket.entries.size === 0) this.buckets.delete(rule.bucket.id);
  }

  /** Reports the chains whose text changed since the last call; undefined for a chain that is no longer needed. */
  flush(emit: (chain: string, text: string | undefined) => void): void {
    const large = this.size > FLAT_LIMIT;
    if (large !== this.large) {
      this.topTouched = true;
      for (const id of this.buckets.keys()) this.touched.add(id);
    }
    if (large || this.large) this.flushBuckets(large, emit);
    if (this.topTouched || (!large && this.touched.size > 0)) emit(this.name, this.topText(large));
    this.large = large;
    this.topTouched = false;
    this.touched.clear();
  }

  private countMatch(bucket: BucketState, match: string, by: 1 | -1): void {
    const count = (bucket.matches.get(match) ?? 0) + by;
    if (count === 0) bucket.matches.delete(match);
    else bucket.matches.set(match, count);
    if (count === 0 || (count === 1 && by === 1)) this.topTouched ||= this.large;
  }

  private flushBuckets(large: boolean, emit: (chain: string, text: string | undefined) => void): void {
    for (const id of this.touched) {
      const bucket = this.buckets.get(id);
      const name = this.bucketName(id);
      emit(name, large && bucket !== undefined ? this.lines(name, [bucket], false).join('\n') : undefined);
    }
  }

  private bucketName(id: string): string {
    return `${this.name}-${id}`;
  }

  private topText(large: boolean): string {
    const own = (rule: string): string => `-A ${this.name} ${rule}`;
    const middle = large ? this.dispatch().map(own) : this.lines(this.name, [...this.buckets.values()], true);
    return [...this.head.map(own), ...middle, ...this.tail.map(own)].join('\n');
  }

  private dispatch(): string[] {
    return [...this.buckets.keys()]
      .sort()
      .flatMap((id) =>
        [...this.buckets.get(id)!.matches.keys()].sort().map((match) => `${match} -j ${this.bucketName(id)}`),
      );
  }

  private lines(chain: string, buckets: readonly BucketState[], comments: boolean): string[] {
    const lines = new Map<string, string>();
    for (const { entries } of buckets)
      for (const [key, { rule }] of entries) {
        const comment = comments && rule.comment !== '' ? `-m comment --comment "${rule.comment}" ` : '';
        lines.set(key, `-A ${chain} ${rule.match} ${comment}${rule.action}`);
      }
    return [...lines.keys()].sort().map((key) => lines.get(key)!);
  }
}
