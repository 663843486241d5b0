import { CERTAIN, countLost, type PartnerRecord, type PathRecord } from './record.ts';

/**
 * What is to be thought of a node:
 * - `reached`: by both, or by the overlay alone: then a firewall keeps questions from the nodes' port, and pods are reached
 * - `refused`: reached likewise, and no agent answers there: it is older, another program, or is being restarted
 * - `lossy`: reached, and a good part of the packets is lost
 * - `overlay`: reached by the underlay but not by the overlay
 * - `small`: reached by small packets, but not by packets as large as pods send
 * - `unserved`: reached by the underlay; one of the two has no overlay address yet
 * - `lost`: by neither, and it was reached before
 * - `silent`: by neither, and it never was: nothing is known, a firewall may keep all questions away
 * - `unknown`: not asked, or not often enough
 */
export type Conclusion =
  | 'reached'
  | 'refused'
  | 'lossy'
  | 'overlay'
  | 'small'
  | 'unserved'
  | 'lost'
  | 'silent'
  | 'unknown';

export const conclusions: readonly Conclusion[] = [
  'reached',
  'refused',
  'lossy',
  'overlay',
  'small',
  'unserved',
  'lost',
  'silent',
  'unknown',
];

/** From that many of the last questions on, and where that share of them is lost, a path loses packets. */
const LOSSY_ASKED = 8;
const LOSSY_SHARE = 0.25;

function isLossy(path: PathRecord): boolean {
  return path.ever && path.asked >= LOSSY_ASKED && countLost(path) >= path.asked * LOSSY_SHARE;
}

export function conclude({ underlay, overlay, split, served, largeLost }: PartnerRecord): Conclusion {
  if (underlay.streak >= CERTAIN && (overlay.streak >= CERTAIN || overlay.asked === 0))
    return underlay.ever || overlay.ever ? 'lost' : 'silent';
  if (split >= CERTAIN) return 'overlay';
  if (largeLost >= CERTAIN) return 'small';
  if (overlay.ever && overlay.streak < CERTAIN) {
    if (overlay.refused) return 'refused';
    if (isLossy(overlay) || (underlay.streak < CERTAIN && isLossy(underlay))) return 'lossy';
    return 'reached';
  }
  if (!served && underlay.ever) return 'unserved';
  return 'unknown';
}

/** Something was lost, and it is not certain yet what that means: it is to be asked again soon. */
export function isUncertain({ underlay, overlay, split, served, largeLost }: PartnerRecord): boolean {
  const open = (lost: number): boolean => lost > 0 && lost < CERTAIN;
  if (open(underlay.streak) || open(overlay.streak) || open(largeLost)) return true;
  return served && overlay.streak >= CERTAIN && split > 0 && split < CERTAIN;
}

/** To be asked again before its turn, to see it go. */
export const isBad = (conclusion: Conclusion): boolean => isBroken(conclusion) || conclusion === 'lost';

/** The node is there, and pods' traffic with it does not flow. */
export const isBroken = (conclusion: Conclusion): boolean =>
  conclusion === 'overlay' || conclusion === 'small';
