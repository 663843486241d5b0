/** What statements of nft have in common: the values of their expressions, each with its part of the packets. */
import { bothWays, type Effect, type Statement, type Surroundings } from './chains.ts';
import type { Json, Value } from './nft-texts.ts';
import { absent, type Evaluated, type Evaluation, type SetTypes, unknown } from './nft-values.ts';
import { type State, withShare } from './state.ts';

/** What all rules of a table share. */
export interface NftContext {
  readonly table: string;
  readonly sets: ReadonlyMap<string, SetTypes>;
}

export type Fields = Readonly<Record<string, Json>>;
export type Maker = (about: Json, context: NftContext) => Statement;

export const next = (state: State): Effect[] => [{ kind: 'next', state }];
export const skip = (state: State): Effect[] => [{ kind: 'skip', state }];

export const fieldsOf = (about: Json): Fields =>
  typeof about === 'object' && about !== null ? (about as Fields) : {};

export function evaluation(state: State, surroundings: Surroundings, context: NftContext): Evaluation {
  return { packet: state.packet, surroundings, ...context };
}

/** An expression in few words. */
export function describe(expression: Json): string {
  return JSON.stringify(expression)
    .replaceAll(/["{}[\]]/g, ' ')
    .replaceAll(/ *[:,] */g, ' ')
    .trim();
}

/** Runs what a statement does for each value that an expression may have. */
export function withValues(
  state: State,
  found: Evaluated,
  what: string,
  act: (value: Value, state: State) => readonly Effect[],
): readonly Effect[] {
  if (found === absent) return skip(state);
  if (found === unknown)
    return bothWays(state, `${what}, which this program cannot tell`).map((effect) =>
      effect.kind === 'next' ? { ...effect, kind: 'verdict', verdict: 'accept' } : effect,
    );
  return found.flatMap(({ value, share }) => act(value, withShare(state, share)));
}
