/** Statements of `nft -j` (libnftables-json(5)), and what they make of a packet. */
import { bothWays, type Effect, type Statement } from './chains.ts';
import { type Fraction, fraction, plus, rest } from './fraction.ts';
import { notrack } from './iptables-targets.ts';
import {
  describe,
  evaluation,
  fieldsOf,
  type Maker,
  type NftContext,
  next,
  skip,
  withValues,
} from './nft-effects.ts';
import { classNumber, holds, isConstant, type Json, type Value } from './nft-texts.ts';
import { dnat, masquerade, redirect, snat } from './nft-translations.ts';
import { absent, type Evaluation, evaluate, mapped, namedElement, unknown } from './nft-values.ts';
import { type State, withDoubt, withPacket, withShare } from './state.ts';

/** A part of the packets goes on, the rest skips the rule. */
function split(state: State, share: Fraction): Effect[] {
  const other = rest(share);
  return [
    ...(share.n === 0n ? [] : next(withShare(state, share))),
    ...(other.n === 0n ? [] : skip(withShare(state, other))),
  ];
}

function compare(operator: string, left: Value, right: Json, evaluation: Evaluation): boolean {
  if (typeof right === 'string' && right.startsWith('@')) {
    const found = namedElement(right, left, evaluation) !== undefined;
    return found !== (operator === '!=');
  }
  if (operator === '==' || operator === 'in') return isEqual(operator, left, right);
  if (operator === '!=') return !isEqual('==', left, right);
  const [a, b] = [Number(left), Number(right)];
  return operator === '<' ? a < b : operator === '>' ? a > b : operator === '<=' ? a <= b : a >= b;
}

/** `==` with flags means exactly these, `in` any of them. */
function isEqual(operator: string, left: Value, right: Json): boolean {
  if (!Array.isArray(left) || typeof left[0] === 'number' || operator === 'in') return holds(right, left);
  if (typeof right === 'string') return left.length === 1 && left[0] === right;
  if (Array.isArray(right))
    return left.length === right.length && right.every((one) => left.includes(one as Value));
  return right === 0 ? left.length === 0 : holds(right, left);
}

function match(written: Json, context: NftContext): Statement {
  const { op = '==', left = null, right = null } = fieldsOf(written);
  return (state, surroundings) => {
    const seen = evaluation(state, surroundings, context);
    const found = evaluate(left, seen);
    if (found === absent) return skip(state);
    if (found === unknown || !isConstant(right))
      return bothWays(state, `${describe(left)} ${op} ${describe(right)}, which this program cannot tell`);
    let share = fraction(0, 1);
    for (const one of found) if (compare(String(op), one.value, right, seen)) share = plus(share, one.share);
    return split(state, share);
  };
}

function verdictOf(written: Json, state: State): Effect[] {
  if (typeof written === 'string') return verdictOfText(written, state);
  const [[name, target] = ['', null]] = Object.entries(fieldsOf(written));
  return verdictOfText(target === null ? name : `${name} ${(target as { target: string }).target}`, state);
}

/** `accept`, `goto CHAIN`, … as nft prints what a verdict map leads to. */
function verdictOfText(text: string, state: State): Effect[] {
  const [word = '', chain = ''] = text.split(' ');
  if (word === 'accept' || word === 'drop') return [{ kind: 'verdict', verdict: word, state }];
  if (word === 'jump' || word === 'goto') return [{ kind: word, chain, state }];
  if (word === 'return') return [{ kind: 'return', state }];
  return next(state);
}

function verdictMap(written: Json, context: NftContext): Statement {
  const { key = null, data = null } = fieldsOf(written);
  return (state, surroundings) => {
    const seen = evaluation(state, surroundings, context);
    return withValues(
      state,
      evaluate(key, seen),
      `what the map has for ${describe(key)}`,
      (value, branch) => {
        const found = mapped(data, value, seen);
        return found === undefined ? skip(branch) : verdictOf(found, branch);
      },
    );
  };
}

function mangle(written: Json, context: NftContext): Statement {
  const { key = null, value = null } = fieldsOf(written);
  const { meta, ct } = fieldsOf(key);
  const name = String(fieldsOf(meta ?? ct ?? null).key);
  if (
    !(meta !== undefined && (name === 'mark' || name === 'priority')) &&
    !(ct !== undefined && name === 'mark')
  )
    return next;
  return (state, surroundings) => {
    const found = evaluate(value, evaluation(state, surroundings, context));
    if (found === unknown)
      return next(withDoubt(state, `whatever ${name} is set to, which this program cannot tell`));
    return withValues(state, found, `what ${name} is set to`, (one, branch) => {
      const number = typeof one === 'string' ? (classNumber(one) ?? 0) : Number(one);
      if (meta !== undefined) return next(withPacket(branch, { [name]: number >>> 0 }));
      const { tracking } = branch.packet;
      return next(
        tracking === undefined
          ? branch
          : withPacket(branch, { tracking: { ...tracking, mark: number >>> 0 } }),
      );
    });
  };
}

const makers: Readonly<Record<string, Maker>> = {
  match,
  vmap: verdictMap,
  mangle,
  dnat,
  snat,
  masquerade: () => masquerade,
  redirect,
  notrack: () => notrack,
  reject: () => (state) => [{ kind: 'verdict', verdict: 'reject', state }],
  accept: () => (state) => verdictOfText('accept', state),
  drop: () => (state) => verdictOfText('drop', state),
  return: () => (state) => verdictOfText('return', state),
  jump: (to) => (state) => verdictOf({ jump: to }, state),
  goto: (to) => (state) => verdictOf({ goto: to }, state),
};

/** What leaves the packet's way as it is. */
const idle = new Set([
  'counter',
  'log',
  'continue',
  'set',
  'map',
  'ct helper',
  'ct timeout',
  'ct expectation',
  'flow',
  'secmark',
  'last',
]);

/** Statements that end their rule where they do not let a packet on; all others may end the packet. */
const limits = new Set(['limit', 'quota', 'ct count']);

/** @param written a statement; those that nft has no JSON for are text */
export function nftStatement(written: Json, context: NftContext): Statement {
  // `update @set { … }` and its kind: what they remember is for later packets.
  if (typeof written === 'string') return next;
  const [[name, about] = ['', null]] = Object.entries(fieldsOf(written));
  if (idle.has(name)) return next;
  const make = makers[name];
  if (make !== undefined) return make(about, context);
  const isMatch = limits.has(name) || (name === 'xt' && fieldsOf(about).type === 'match');
  return (state) =>
    bothWays(state, `"${describe(written)}" lets it on, which this program does not understand`).map(
      (effect) =>
        isMatch || effect.kind === 'next'
          ? effect
          : { kind: 'verdict', verdict: 'drop', state: effect.state },
    );
}
