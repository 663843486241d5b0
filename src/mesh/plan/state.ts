import type { Family } from '../../model/address.ts';
import { type Conclusion, conclude } from './conclusion.ts';
import type { MeshPath } from './places.ts';
import { countLost, type PartnerRecord, type PathRecord } from './record.ts';

/** How one path to a node does. */
export interface MeshPathState {
  /** Of how many questions, the last ones, it is known what became of them. */
  readonly asked: number;
  readonly lost: number;
  /** Round trip in milliseconds, smoothed; undefined where none is known. */
  readonly roundTripMs: number | undefined;
}

/** What was measured of one other node in one family. */
export interface MeshPartner {
  /** Its lease's name. */
  readonly name: string;
  readonly family: Family['name'];
  /** Its public IP. */
  readonly underlayAddress: string;
  readonly overlayAddress: string;
  readonly conclusion: Conclusion;
  readonly underlay: MeshPathState;
  readonly overlay: MeshPathState;
  /** The last packet as large as pods' that went by the overlay, and how many of these were lost in a row; undefined where none went. */
  readonly large: { readonly bytes: number; readonly lost: number } | undefined;
  /** Where something by the overlay is lost: whether it gets there; undefined where that is not known. */
  readonly heard: boolean | undefined;
  /** Why this node's kernel did not let a question out by the overlay. */
  readonly unsent: string | undefined;
  /** Seconds since it was last asked. */
  readonly askedSecondsAgo: number;
}

/** How measuring does. */
export interface MeshState {
  readonly port: number;
  readonly intervalSeconds: number;
  /** In how many seconds each node is asked once. */
  readonly passSeconds: number;
  /** How many other nodes there are to ask. */
  readonly nodes: number;
  /** Each node is asked in each of them. */
  readonly families: readonly Family['kubeName'][];
  /** Addresses at which this node answers others. */
  readonly answersAt: readonly string[];
  /** Why it does not answer at all of its addresses. */
  readonly problem: string | undefined;
  /** Since the start, by path. */
  readonly counts: Readonly<Record<MeshPath, MeshCounts>>;
  /** Questions of others. */
  readonly answered: number;
  readonly passedOver: number;
  /** How many nodes are so, each family for itself. */
  readonly conclusions: Readonly<Partial<Record<Conclusion, number>>>;
}

export interface MeshCounts {
  readonly asked: number;
  readonly lost: number;
  /** Sum of the round trips in seconds. */
  readonly seconds: number;
  /** How many round trips were at most as long as each of {@link roundTripBounds}, and longer than the one before. */
  readonly buckets: readonly number[];
}

/** Seconds. */
export const roundTripBounds = [
  0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1,
] as const;

function pathState(path: PathRecord): MeshPathState {
  return {
    asked: path.asked,
    lost: countLost(path),
    roundTripMs: path.micros === 0 ? undefined : path.micros / 1000,
  };
}

export function partnerState(
  partner: Pick<MeshPartner, 'name' | 'family' | 'underlayAddress' | 'overlayAddress'>,
  record: PartnerRecord,
  nowSeconds: number,
): MeshPartner {
  return {
    ...partner,
    conclusion: conclude(record),
    underlay: pathState(record.underlay),
    overlay: pathState(record.overlay),
    large: record.largeBytes === 0 ? undefined : { bytes: record.largeBytes, lost: record.largeLost },
    heard: record.heard,
    unsent: record.overlay.unsent,
    askedSecondsAgo: Math.max(0, nowSeconds - record.at),
  };
}
