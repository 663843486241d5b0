import { describeError, TwillError } from '../model/error.ts';
import { ask } from './client.ts';
import { agentDifferences, type Compared } from './differences.ts';
import { type Look, looking } from './look.ts';
import { type Answer, type InspectFlags, type Screen, show } from './output.ts';
import { countByKind, type Difference, type Kind, ownerOf, sortDifferences } from './plan/difference.ts';
import { serviceDifferences } from './service-rules.ts';
import { type Cell, formatTable } from './table.ts';

export interface DiffFlags extends InspectFlags {
  readonly fix?: boolean;
}

export interface DiffAnswer extends Answer, Compared {
  readonly version: 1;
  /** Why agent and proxy have not said themselves what should be; undefined where they have. */
  readonly agentAway: string | undefined;
  readonly proxyAway: string | undefined;
  /** When the agent has written down what should be, where it has not said it now. */
  readonly agentStateAt: string | undefined;
  /** What was there before `--fix`; undefined without it. */
  readonly before: readonly Difference[] | undefined;
}

/** The rules of Services, as far as it is known what they should be. */
async function compareServices(look: Look): Promise<Compared> {
  try {
    return { differences: await serviceDifferences(look), unknown: [] };
  } catch (error) {
    return { differences: [], unknown: [`rules of Services: ${describeError(error)}`] };
  }
}

/** @param compared what the agent keeps, where that was compared already */
export async function lookAtDifferences(look: Look, compared?: Compared): Promise<DiffAnswer> {
  const [agent, proxy] = await Promise.all([look.agent(), look.proxy()]);
  if (agent.state === undefined && proxy.state === undefined)
    throw new TwillError(
      'unavailable',
      `${agent.why}; ${proxy.why}: nothing on this node says what should be`,
    );
  const [network, services] = await Promise.all([compared ?? agentDifferences(look), compareServices(look)]);
  return {
    version: 1,
    agentAway: agent.why,
    proxyAway: proxy.why,
    agentStateAt: agent.live ? undefined : agent.state?.at,
    differences: sortDifferences([...network.differences, ...services.differences]),
    unknown: [...network.unknown, ...services.unknown],
    before: undefined,
  };
}

const lookNow = (flags: DiffFlags): Promise<DiffAnswer> => looking(flags, (look) => lookAtDifferences(look));

/** The owner looks within this, or has said so. */
const FIX_MS = 15_000;

async function fix(flags: DiffFlags): Promise<DiffAnswer> {
  const before = await lookNow(flags);
  const unknown: string[] = [];
  for (const owner of ['agent', 'proxy'] as const) {
    if (!before.differences.some(({ kind }) => ownerOf(kind) === owner)) continue;
    const socketPath = owner === 'agent' ? flags.socket : flags.proxySocket;
    const away = owner === 'agent' ? before.agentAway : before.proxyAway;
    if (away !== undefined) {
      unknown.push(`nothing of the ${owner}'s was put right, for ${away}`);
      continue;
    }
    try {
      await ask(owner, socketPath, { inspect: 'repair' }, FIX_MS);
    } catch (error) {
      unknown.push(`nothing of the ${owner}'s was put right: ${describeError(error)}`);
    }
  }
  const after = await lookNow(flags);
  return { ...after, before: before.differences, unknown: [...unknown, ...after.unknown] };
}

/** Rows of one kind that a table has: the first ones say what happened. */
const MOST_ROWS = 20;

function rows(differences: readonly Difference[]): Cell[][] {
  const shown = new Map<Kind, number>();
  const result: Cell[][] = [];
  for (const { kind, object, state, detail, show: command } of differences) {
    const count = (shown.get(kind) ?? 0) + 1;
    shown.set(kind, count);
    const tone = state === 'foreign' ? 'poor' : 'bad';
    if (count <= MOST_ROWS)
      result.push([kind, object, { text: state, tone }, { text: detail, below: command }]);
  }
  for (const [kind, count] of countByKind(differences))
    if (count > MOST_ROWS) result.push([kind, '…', '', `and ${count - MOST_ROWS} more`]);
  return result;
}

function heading({ differences, before, unknown }: DiffAnswer, paint: Screen['paint']): string {
  const gone = before === undefined ? '' : `${Math.max(0, before.length - differences.length)} put right, `;
  if (differences.length === 0 && unknown.length === 0)
    return `${paint(`${gone}all is as it should be`, 'good')}\n`;
  const kinds = countByKind(differences).map(([kind, count]) => `${count} ${kind}`);
  const count = differences.length === 1 ? '1 difference' : `${differences.length} differences`;
  const left = before === undefined ? count : `${count} left`;
  const text = `${gone}${left}${kinds.length > 0 ? `: ${kinds.join(', ')}` : ''}`;
  return `${paint(text, differences.length === 0 ? 'poor' : 'bad')}\n`;
}

function diffTable(answer: DiffAnswer, { paint, width }: Screen): string {
  const { differences, unknown, agentAway, agentStateAt, proxyAway } = answer;
  const asOf =
    agentStateAt === undefined ? '' : `: compared with what it has written down at ${agentStateAt}`;
  const notes = [
    ...(agentAway === undefined ? [] : [`${agentAway}${asOf}`]),
    ...(proxyAway === undefined ? [] : [proxyAway]),
    ...unknown.map((what) => `not known: ${what}`),
  ];
  const table =
    differences.length === 0
      ? ''
      : formatTable(['KIND', 'OBJECT', 'STATE', 'DETAIL'], rows(differences), { paint, width });
  return heading(answer, paint) + notes.map((note) => `${paint(note, 'poor')}\n`).join('') + table;
}

/** `twill diff` */
export async function showDiff(flags: DiffFlags): Promise<void> {
  await show(flags, {
    look: () => (flags.fix === true ? fix(flags) : lookNow(flags)),
    table: diffTable,
    exitStatus: ({ differences, unknown }) => (differences.length > 0 ? 1 : unknown.length > 0 ? 2 : 0),
  });
}
