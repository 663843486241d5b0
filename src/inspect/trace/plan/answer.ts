/** What `twill trace` says: the shape of `-o json`. What is taken out of it, or means something else, raises `version`. */
import { fractionNumber, fractionText } from './fraction.ts';
import type { RuleSet } from './hooks.ts';
import type { Ending } from './journey.ts';
import type { Protocol } from './packet.ts';
import { innermost, type Step, stepsOf } from './state.ts';
import type { Walked, Way } from './walk.ts';

/** An end of the connection as it was asked for. */
export interface TraceEnd {
  /** For people: `pod shop/web`, `Service shop/web:http`, `node`, `outside`. */
  readonly name: string;
  readonly address: string;
  readonly port?: number;
}

export interface TracePart {
  /** `left`: it left this node, which knows no more of it. */
  readonly result: 'delivered' | 'left' | 'died';
  readonly where: string;
  readonly reason: string;
  /** What to do about it. */
  readonly advice?: string;
  /** The packet where it ended. */
  readonly packet: {
    readonly source: string;
    readonly sourcePort?: number;
    readonly destination: string;
    readonly port?: number;
  };
  readonly steps: readonly Step[];
}

export interface TraceWay extends TracePart {
  /** How many of all connections go this way, exactly, as far as chance decides: `1/3`. */
  readonly share: string;
  /** The same as a number from 0 to 1. */
  readonly probability: number;
  /** What this way depends on, where it was not understood or cannot be known. */
  readonly conditions: readonly string[];
  /** The source is not the sender's own any more. */
  readonly masqueraded: boolean;
  /** Ways of the answer; none where the packet does not arrive. */
  readonly back: readonly (TracePart & { readonly conditions: readonly string[] })[];
}

export interface TraceAnswer {
  readonly version: 1;
  readonly from: TraceEnd;
  readonly to: TraceEnd;
  readonly protocol: Protocol;
  /** `unknown`: it depends on what was not understood, or could not be read, whether it dies. */
  readonly verdict: 'delivered' | 'dies' | 'unknown';
  /** What to know about the answer itself: who was not there to be asked, what could not be read. */
  readonly notes: readonly string[];
  readonly ways: readonly TraceWay[];
  /** What a real packet did; only with `--probe`. */
  readonly probe?: ProbeAnswer;
}

export interface ProbeAnswer {
  readonly result: 'answered' | 'refused' | 'silent' | 'failed';
  /** In words. */
  readonly text: string;
  /** Whether that is what the walk says. */
  readonly agrees: boolean;
}

function partOf(ending: Ending): TracePart {
  const { source, sourcePort, destination, port } = innermost(ending.state);
  const { result, where, reason, advice, state } = ending;
  return {
    result,
    where,
    reason,
    ...(advice === undefined ? {} : { advice }),
    packet: {
      source,
      ...(sourcePort === undefined ? {} : { sourcePort }),
      destination,
      ...(port === undefined ? {} : { port }),
    },
    steps: stepsOf(state.trail),
  };
}

function wayOf({ there, back }: Way, source: string): TraceWay {
  const { share, doubts } = there.state;
  const part = partOf(there);
  return {
    share: fractionText(share),
    probability: fractionNumber(share),
    conditions: doubts,
    masqueraded: source !== '' && part.packet.source !== source,
    ...part,
    back: back.map((ending) => ({
      ...partOf(ending),
      conditions: ending.state.doubts.filter((doubt) => !doubts.includes(doubt)),
    })),
  };
}

/** The way fails, there or for every packet of the answer. */
const fails = ({ result, back }: TraceWay): boolean =>
  result === 'died' || back.some((part) => part.result === 'died' && part.conditions.length === 0);

/** It cannot be told whether the answer gets back. */
const isUnsure = ({ back }: TraceWay): boolean =>
  back.some((part) => part.result === 'died' && part.conditions.length > 0);

export function verdictOf(ways: readonly TraceWay[]): TraceAnswer['verdict'] {
  const certain = ways.filter(({ conditions }) => conditions.length === 0);
  if (certain.some(fails)) return 'dies';
  // Where every way fails, it does not matter which it is.
  if (ways.length > 0 && ways.every(fails)) return 'dies';
  return ways.some((way) => fails(way) || isUnsure(way)) ? 'unknown' : 'delivered';
}

/** @param missed what of the rules was not walked, or could not be read */
export function traceAnswer(
  asked: Pick<TraceAnswer, 'from' | 'to' | 'protocol' | 'notes'>,
  { ways, source }: Walked,
  missed: Pick<RuleSet, 'unread' | 'failures'>,
): TraceAnswer {
  const shown = ways.map((way) => wayOf(way, source));
  const from = { ...asked.from, address: source };
  const notes = [
    ...asked.notes,
    ...missed.failures.map((one) => `rules could not be read: ${one}`),
    ...missed.unread.map((one) => `${one}: not walked`),
  ];
  const seen = verdictOf(shown);
  const verdict = seen === 'delivered' && missed.failures.length > 0 ? 'unknown' : seen;
  return { version: 1, ...asked, notes, from, verdict, ways: shown };
}
