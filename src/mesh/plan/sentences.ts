import type { Conclusion } from './conclusion.ts';
import type { MeshPartner, MeshPathState } from './state.ts';

/** What somebody should know of the nodes around: a `warning` is of traffic that does not flow. */
export interface MeshFinding {
  readonly severity: 'warning' | 'note';
  /** Whom it is about: a lease, or all. */
  readonly name: string;
  readonly what: string;
}

const MOST_NAMED = 5;

const named = ({ name, underlayAddress }: MeshPartner): string => `${name} (${underlayAddress})`;

const share = ({ asked, lost }: MeshPathState): string => `${lost} of the last ${asked}`;

/** What makes the difference, and so where to look. @param packets how those that are lost are called */
function whichWay({ heard, unsent, overlayAddress: address }: MeshPartner, packets = 'packets'): string {
  if (unsent !== undefined) return `this node cannot send to ${address}: ${unsent}`;
  if (heard === true) return `${packets} get there, the answers from ${address} do not come back`;
  if (heard === false) return `${packets} to ${address} do not get there`;
  return `nothing comes back from ${address}`;
}

/** One sentence on a node that is not as it should be; undefined for one of which there is nothing to say. */
export function sentenceOf(partner: MeshPartner): string | undefined {
  const { conclusion, underlay, overlay, large } = partner;
  if (conclusion === 'overlay')
    return `${named(partner)} is reached by the underlay but not by the overlay: ${whichWay(partner)}`;
  if (conclusion === 'small')
    return `${named(partner)} is reached by small packets but not by full-size ones: ${whichWay(partner, `those of ${large?.bytes} bytes`)}; connections between pods hang (tracepath ${partner.underlayAddress}; Backend.MTU)`;
  if (conclusion === 'lost')
    return `${named(partner)} is reached neither by the underlay nor by the overlay any more: it is down, or cut off, or its agent hangs`;
  if (conclusion === 'lossy')
    return `packets to ${named(partner)} are lost: ${share(underlay)} by the underlay, ${share(overlay)} by the overlay`;
  return undefined;
}

const severities: Readonly<Partial<Record<Conclusion, MeshFinding['severity']>>> = {
  overlay: 'warning',
  small: 'warning',
  lossy: 'note',
  lost: 'note',
};

function each(partners: readonly MeshPartner[], conclusion: Conclusion): MeshFinding[] {
  const severity = severities[conclusion] ?? 'note';
  const some = partners.filter((partner) => partner.conclusion === conclusion);
  const found = some
    .slice(0, MOST_NAMED)
    .map((partner) => ({ severity, name: partner.name, what: sentenceOf(partner) ?? '' }));
  const more = some.length - found.length;
  return more > 0 ? [...found, { severity, name: 'nodes', what: `and ${more} more likewise` }] : found;
}

/**
 * What is to be said of the nodes. One that is not reached at all may well be switched off, and is only noted; where that
 * is so of most, or where no node is reached by the overlay, this node itself is in trouble.
 * @param vxlanPort undefined for another backend
 */
export function meshFindings(partners: readonly MeshPartner[], vxlanPort: number | undefined): MeshFinding[] {
  const count = (...wanted: readonly Conclusion[]): number =>
    new Set(partners.flatMap(({ name, conclusion }) => (wanted.includes(conclusion) ? name : []))).size;
  const reached = count('reached', 'refused', 'lossy');
  const [broken, small, lost] = [count('overlay'), count('small'), count('lost')];
  const found: MeshFinding[] = [];
  const all = (what: string): void => {
    found.push({ severity: 'warning', name: 'all nodes', what });
  };
  if (broken > 1 && reached + small === 0) {
    const look =
      vxlanPort === undefined
        ? 'look for what drops packets of pod addresses between the nodes'
        : `look for what drops UDP port ${vxlanPort} here or between the nodes`;
    all(`no node is reached by the overlay, and ${broken} are by the underlay: ${look}`);
  }
  if (small > 1 && reached === 0)
    all(
      `no node is reached by full-size packets, and ${small} are by small ones: this node's interface takes larger ones than the network behind it carries; set its MTU, or Backend.MTU in the network configuration`,
    );
  if (lost > 1 && lost >= reached + broken + small)
    all(
      `${lost} nodes that were reached are not any more, neither by the underlay nor by the overlay: this node is cut off, or they are down`,
    );
  const order = ['overlay', 'small', 'lost', 'lossy'] as const;
  return [...found, ...order.flatMap((conclusion) => each(partners, conclusion))];
}
