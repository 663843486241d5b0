import { TwillError } from '../model/error.ts';

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go counts nanoseconds in 63 bits. */
const LONGEST = 2 ** 63 / 1e6;

/**
 * Milliseconds of a duration as Go programs write it (time.ParseDuration): `30s`, `1m30s`, `250ms`, `-1.5h`, `0`.
 * @throws TwillError `invalid`
 */
export function parseDuration(text: string): number {
  const [, sign = '', rest = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  if (rest === '0') return 0;
  if (!/^((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$/.test(rest)) {
    throw new TwillError('invalid', `'${text}' is not a duration (for example 30s, 1m30s or 250ms)`);
  }
  let total = 0;
  for (const [, amount, unit] of rest.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(amount) * units[unit!]!;
  }
  if (total > LONGEST) throw new TwillError('invalid', `'${text}' is longer than 292 years`);
  return sign === '-' ? -total : total;
}
