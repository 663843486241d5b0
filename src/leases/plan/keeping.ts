import { type Claim, claimedLease, isAnothers, isTwins, type LeaseText, saysLease } from './claim.ts';
import { type Lease, subnetsOf } from './lease.ts';
import { fits } from './subnet-choice.ts';
import { TENURE_MS } from './tenure.ts';

/** An unproven takeover that nobody has disputed for this long counts as ours. */
const DISPUTE_MS = 60_000;
/** So often a lease is written back to a node that may be the right one; one that goes on for longer is. */
const MOST_ASSERTIONS = 20;
/** So many follow at once; further ones wait. */
const FREE_ASSERTIONS = 3;
/** After so long without a dispute the next one is the first. */
const QUIET_MS = 10 * 60_000;

/** A key of a lease, with the number of the change that made it and of its last one. */
export interface LeaseKey extends LeaseText {
  readonly created: number;
  readonly revision: bigint;
}

/** How often we have written our lease back, and when last and first, by the monotonic clock. */
export interface Assertions {
  readonly count: number;
  readonly at: number;
  readonly first: number;
}

export const noAssertions: Assertions = {
  count: 0,
  at: Number.NEGATIVE_INFINITY,
  first: Number.NEGATIVE_INFINITY,
};

/** A lease that we hold. */
export interface HeldLease {
  /** Its key as we wrote it last. */
  readonly record: LeaseKey;
  readonly lease: Lease;
  /** Taken over by public IP alone, at this time by the monotonic clock; undefined when the lease is ours beyond doubt. */
  readonly unprovenSince: number | undefined;
  /** When we made it, by the monotonic clock; undefined for one that was there. */
  readonly madeAt: number | undefined;
  /** We made it, or our own subnet file says that it is ours: no word of another node's makes it theirs. */
  readonly sure: boolean;
  /** How often we have written our content back after another node overwrote it. */
  readonly asserted: Assertions;
}

/** What is to be done about the lease that we hold. */
export type Keeping =
  | { readonly kind: 'lost'; readonly why: string }
  /** It is gone, and ours still: it is made again. */
  | { readonly kind: 'retake' }
  /** It does not fit the configuration any more; until there is another it holds. */
  | { readonly kind: 'replace' }
  /** Somebody wrote something else in its place. */
  | { readonly kind: 'dispute' }
  /** It says what it should. */
  | { readonly kind: 'confirm' }
  | { readonly kind: 'update' };

/**
 * @param key what stands in its place; undefined where nothing does
 * @param lives our etcd lease has not run out
 */
export function keeping(
  { record, lease: held }: Pick<HeldLease, 'record' | 'lease'>,
  key: LeaseKey | undefined,
  wish: Claim,
  lives: boolean,
): Keeping {
  const subnets = subnetsOf(held);
  const isFit = fits(wish.config, subnets);
  if (key === undefined)
    return lives && isFit ? { kind: 'retake' } : { kind: 'lost', why: 'its key was deleted or has expired' };
  if (!isFit) return { kind: 'replace' };
  const lease = claimedLease(wish, subnets);
  const another = isAnothers(key, lease);
  // In an etcd that counts anew another's may have the lower number.
  const isOverwritten = (key.revision > record.revision || another) && key.value !== record.value;
  if (saysLease(key, lease)) return { kind: 'confirm' };
  if (!isOverwritten) return { kind: 'update' };
  // A key that was made anew after ours had run out is its maker's.
  return another && key.created !== record.created && !lives
    ? { kind: 'lost', why: 'another node holds its key now' }
    : { kind: 'dispute' };
}

/**
 * Whether another's value in the place of ours stays, and we take another lease.
 * @param lease what ours should say
 * @param now by the monotonic clock
 */
export function yieldsTo(key: LeaseText, lease: Lease, held: HeldLease, now: number): boolean {
  const { unprovenSince, madeAt, sure, asserted } = held;
  if (unprovenSince !== undefined && now - unprovenSince < DISPUTE_MS && isTwins(key, lease)) return true;
  // The node that had the subnet a moment before we made our lease takes it back in the same way.
  const isLate = madeAt !== undefined && asserted.first - madeAt < TENURE_MS;
  return asserted.count >= MOST_ASSERTIONS && (isAnothers(key, lease) ? isLate : !sure);
}

/** What is remembered once our lease is written back, and whether that waits a moment. */
export function assertedAgain(
  { count, at, first }: Assertions,
  now: number,
): { readonly asserted: Assertions; readonly waits: boolean } {
  const isFirst = now - at >= QUIET_MS;
  const asserted = { count: isFirst ? 1 : count + 1, at: now, first: isFirst ? now : first };
  return { asserted, waits: asserted.count > FREE_ASSERTIONS };
}

/** Somebody keeps writing over our lease, and we over what he writes: the two may both be right. */
export function isContested({ count, at }: Assertions, now: number): boolean {
  return count > FREE_ASSERTIONS && now - at <= DISPUTE_MS;
}
