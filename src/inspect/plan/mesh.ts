import type { Conclusion } from '../../mesh/plan/conclusion.ts';
import type { MeshPath } from '../../mesh/plan/places.ts';
import { meshFindings, sentenceOf } from '../../mesh/plan/sentences.ts';
import type { MeshPartner, MeshState } from '../../mesh/plan/state.ts';
import type { Problem } from './problem.ts';
import type { AgentState } from './state.ts';
import type { MeshAnswer } from './status.ts';

function medianMs(partners: readonly MeshPartner[], path: MeshPath): number | undefined {
  const known = partners.flatMap((partner) => partner[path].roundTripMs ?? []).sort((a, b) => a - b);
  return known[Math.floor(known.length / 2)];
}

/** Agents of before do not measure, and do not say so. */
export function meshAnswer({ mesh, meshPartners: partners = [] }: AgentState): MeshAnswer | undefined {
  if (mesh === undefined) return undefined;
  const troubled = partners.flatMap((partner) => {
    const sentence = sentenceOf(partner);
    return sentence === undefined ? [] : [{ ...partner, sentence }];
  });
  const median = { underlay: medianMs(partners, 'underlay'), overlay: medianMs(partners, 'overlay') };
  return { ...mesh, troubled, medianMs: median };
}

/** What is only to be known; what is more is among the lines of /readyz. */
export function meshNotes({ mesh, meshPartners: partners = [] }: AgentState): Problem[] {
  if (mesh === undefined) return [];
  return meshFindings(partners, undefined)
    .filter(({ severity }) => severity === 'note')
    .map(({ what }) => ({ severity: 'note', area: 'mesh', what }));
}

/** The words of the table, those that matter first; `reached` is said in any case. */
const words: readonly (readonly [Conclusion, string])[] = [
  ['reached', 'reached'],
  ['overlay', 'by the underlay only'],
  ['small', 'by small packets only'],
  ['lost', 'no longer reached'],
  ['lossy', 'with losses'],
  ['refused', 'reached, without an agent that answers'],
  ['unserved', 'reached, without an overlay address yet'],
  ['silent', 'silent'],
  ['unknown', 'not known yet'],
];

const milliseconds = (ms: number | undefined): string =>
  ms === undefined ? 'not known' : `${ms < 10 ? ms.toFixed(2) : Math.round(ms)} ms`;

/** One line on how nodes are reached. */
export function meshText(mesh: (MeshState & Pick<MeshAnswer, 'medianMs'>) | undefined): string {
  if (mesh === undefined) return 'not measured (--mesh-probe-port)';
  const { nodes, families, conclusions, medianMs: median, passSeconds, answersAt, port } = mesh;
  if (answersAt.length === 0) return `not measured yet: nothing is answered at UDP port ${port}`;
  if (nodes === 0) return 'no other node to ask';
  const counts = words.flatMap(([conclusion, word]) => {
    const count = conclusions[conclusion] ?? 0;
    return count > 0 || conclusion === 'reached' ? `${count} ${word}` : [];
  });
  const times = `median ${milliseconds(median.overlay)} by the overlay, ${milliseconds(median.underlay)} by the underlay`;
  const whom = `${nodes} ${nodes === 1 ? 'node' : 'nodes'} by ${families.join(' and ')}`;
  return `${whom}: ${counts.join(', ')}; ${times}; each asked every ${Math.round(passSeconds)}s`;
}
