import { countByKind, type Difference } from './difference.ts';

/** How much it matters: `down` keeps the node's pods from their network, a `note` is only to be known. */
export type Severity = 'down' | 'degraded' | 'note';

/** Something that an operator should know. */
export interface Problem {
  readonly severity: Severity;
  readonly area: string;
  readonly what: string;
  /** The command that shows it. */
  readonly show?: string | undefined;
}

export type Verdict = 'healthy' | 'degraded' | 'down';

export const verdictStatus: Readonly<Record<Verdict, number>> = { healthy: 0, degraded: 1, down: 2 };

export function verdictOf(problems: readonly Problem[]): Verdict {
  if (problems.some(({ severity }) => severity === 'down')) return 'down';
  return problems.some(({ severity }) => severity === 'degraded') ? 'degraded' : 'healthy';
}

/** Differences that keep all pods from the other nodes. */
function isOutage({ kind, object, state, detail }: Difference): boolean {
  if (kind === 'device') return state === 'missing' || detail.includes('is down');
  if (kind === 'underlay') return state === 'missing' || !detail.startsWith('its MTU');
  return kind === 'sysctl' && /forward/.test(object) && state === 'wrong';
}

/** Differences of one kind that are each told; more are counted. */
const MOST_TOLD = 5;

/**
 * Differences as problems.
 * @param peers how many other nodes there are
 */
export function differenceProblems(differences: readonly Difference[], peers: number): Problem[] {
  const told = new Map<string, number>();
  const routes = differences.filter(({ kind, state }) => kind === 'route' && state !== 'foreign').length;
  const found = differences.flatMap((one): Problem[] => {
    const count = (told.get(one.kind) ?? 0) + 1;
    told.set(one.kind, count);
    const severity = isOutage(one) ? 'down' : 'degraded';
    const { kind: area, object, state, detail, show } = one;
    return count > MOST_TOLD ? [] : [{ severity, area, what: `${object} is ${state}: ${detail}`, show }];
  });
  for (const [kind, count] of countByKind(differences))
    if (count > MOST_TOLD)
      found.push({
        severity: 'degraded',
        area: kind,
        what: `and ${count - MOST_TOLD} more`,
        show: 'twill diff',
      });
  if (peers > 0 && routes >= peers)
    found.push({ severity: 'down', area: 'route', what: 'no other node is reached', show: 'twill routes' });
  return found;
}

/** Characters of a reason in the summary; the whole of it is among the problems. */
const LONGEST_REASON = 100;

function shortened(text: string): string {
  if (text.length <= LONGEST_REASON) return text;
  return `${text.slice(0, text.lastIndexOf(' ', LONGEST_REASON))} …`;
}

/** One sentence, the first that is read. */
export function summaryOf(node: string, problems: readonly Problem[]): string {
  const verdict = verdictOf(problems);
  if (verdict === 'healthy') return `${node} is healthy`;
  const severe = problems.filter(({ severity }) => severity === verdict);
  const [first] = severe;
  const more = severe.length - 1;
  return `${node} is ${verdict}: ${shortened(first?.what ?? '')}${more > 0 ? ` (and ${more} more)` : ''}`;
}
