/** The shape of a token bucket: bytes per second and bytes. */
export interface Bucket {
  readonly rate: number;
  readonly burst: number;
  readonly limit: number;
}

/** How long a packet may wait in the queue, in seconds: what the bandwidth plugin allows. */
const LATENCY = 0.025;
/** Seconds' worth of traffic that may come at once where no burst is given. */
const DEFAULT_BURST = 0.05;
/** What containerd and CRI-O send as a burst where nobody has chosen one: with it, a limit would begin after 512 MiB. */
const NO_BURST = 0xffff_ffff;
/** A bucket smaller than the largest packet lets nothing through. */
const MIN_BURST = 65_536;

/**
 * The token bucket of a limit.
 * @param rate bits per second; undefined for no limit
 * @param burst bits
 */
export function planBucket(rate: number | undefined, burst: number | undefined): Bucket | undefined {
  if (rate === undefined || rate === 0) return undefined;
  const bytes = Math.max(1, Math.floor(rate / 8));
  const bucket = burst === undefined || burst === 0 || burst >= NO_BURST ? bytes * DEFAULT_BURST : burst / 8;
  const size = Math.floor(Math.max(MIN_BURST, bucket));
  return { rate: bytes, burst: size, limit: Math.floor(bytes * LATENCY) + size };
}

/** The limit that a token bucket was made for. @param bucket bytes per second and bytes */
export function limitOf({ rate, limit }: Omit<Bucket, 'burst'>): {
  readonly rate: number;
  readonly burst: number;
} {
  return { rate: rate * 8, burst: Math.max(0, limit - Math.floor(rate * LATENCY)) * 8 };
}

/** Name of the ifb device that shapes what a pod sends, from its host-side veth's. */
export function ifbName(hostVeth: string): string {
  return hostVeth.replace(/^veth/, 'ifb');
}
