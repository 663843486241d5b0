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

/** Up to nine digits behind the point, as many as it needs. */
const short = (value: number): string => String(Number(value.toFixed(9)));

/** A duration as Go prints it (time.Duration.String): `1h0m0.5s`, `250ms`, `0s`. @param ms milliseconds */
export function formatDuration(ms: number): string {
  const size = Math.abs(ms);
  const sign = ms < 0 ? '-' : '';
  if (size === 0) return '0s';
  if (size < 1e-3) return `${sign}${Math.round(size * 1e6)}ns`;
  if (size < 1) return `${sign}${short(size * 1000)}µs`;
  if (size < 1000) return `${sign}${short(size)}ms`;
  const seconds = `${short((size % 60_000) / 1000)}s`;
  const minutes = Math.floor(size / 60_000);
  if (minutes === 0) return `${sign}${seconds}`;
  const rest = `${minutes % 60}m${seconds}`;
  return minutes < 60 ? `${sign}${rest}` : `${sign}${Math.floor(minutes / 60)}h${rest}`;
}
