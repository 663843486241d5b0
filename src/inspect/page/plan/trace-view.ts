import { oneLine } from '../../../model/text.ts';
import type { TraceAnswer, TracePart } from '../../trace/plan/answer.ts';
import type { Step } from '../../trace/plan/state.ts';
import {
  commonSteps,
  endLine,
  percent,
  stepLabel,
  stepText,
  summary,
  title,
} from '../../trace/plan/trace-text.ts';
import type { TraceEnding, TraceStep, TraceView } from './view.ts';

/** A Service of a thousand endpoints has as many ways: the first ones say what happens. */
const MOST_WAYS = 24;
/** Of a part that is there or back. */
const MOST_STEPS = 300;
const LONGEST = 500;

const shownStep = (step: Step): TraceStep => [step.where, stepLabel(step), oneLine(stepText(step), LONGEST)];

const shownSteps = (steps: readonly Step[]): TraceStep[] => steps.slice(0, MOST_STEPS).map(shownStep);

function ending(
  part: TracePart & { readonly conditions: readonly string[] },
  steps: readonly Step[],
  text = endLine(part),
): TraceEnding {
  return {
    tone: part.result === 'died' ? 'bad' : 'good',
    text: oneLine(text, LONGEST),
    advice: part.advice,
    conditions: part.conditions,
    steps: shownSteps(steps),
  };
}

function isLong({ ways }: TraceAnswer): boolean {
  return ways.some(({ steps, back }) =>
    [steps, ...back.map((one) => one.steps)].some((all) => all.length > MOST_STEPS),
  );
}

/** The trace as the page shows it, in the words of `twill trace`; ways that die come first. */
export function traceView(answer: TraceAnswer): TraceView {
  const { verdict, notes, ways } = answer;
  const shared = commonSteps(ways);
  const dead = ways.filter(({ result }) => result === 'died');
  const sorted = [...dead, ...ways.filter(({ result }) => result !== 'died')];
  return {
    title: title(answer),
    verdict,
    summary: summary(answer),
    notes,
    common: shownSteps(ways[0]?.steps.slice(0, shared) ?? []),
    ways: sorted.slice(0, MOST_WAYS).map((way) => ({
      ...ending(way, way.steps.slice(shared)),
      share: percent(way.probability),
      back: way.back.map((part) =>
        part.result === 'died'
          ? ending(part, part.steps)
          : ending(part, part.steps, `THE ANSWER comes back, from ${part.packet.source}`),
      ),
    })),
    moreWays: Math.max(0, ways.length - MOST_WAYS),
    cut: isLong(answer),
  };
}
