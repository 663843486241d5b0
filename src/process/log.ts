import pino from 'pino';
import { withoutCredentials } from '../model/error.ts';
import { oneLine } from '../model/text.ts';
import { isoTime, monotonicMs } from './clock.ts';
import { writeStandardError } from './standard-error.ts';

export type Log = pino.Logger;

export type LogFormat = 'json' | 'pretty';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Characters; what is longer was not meant to be read. */
const LONGEST_LINE = 8000;
const LONGEST_FIELD = 4000;

/** One line for a person: time, level, message, then the fields as key=value. */
function prettyLine(line: string): string {
  const {
    level,
    time,
    msg,
    pid: _pid,
    hostname: _hostname,
    ...fields
  } = JSON.parse(line) as Record<string, unknown>;
  const label = (pino.levels.labels[level as number] ?? '').toUpperCase().padEnd(5);
  const rest = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('');
  // Names and reasons come from outside: none of them may begin a line of its own.
  return `${isoTime(time as number).slice(11, 23)} ${label} ${oneLine(`${msg}${rest}`, LONGEST_LINE)}\n`;
}

/** Long texts of a line's fields are cut. */
function cutFields(fields: Record<string, unknown>): Record<string, unknown> {
  const long = (value: unknown): value is string => typeof value === 'string' && value.length > LONGEST_FIELD;
  if (!Object.values(fields).some(long)) return fields;
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, long(value) ? oneLine(value, LONGEST_FIELD) : value]),
  );
}

/** A logger on standard error. Logging is synchronous, so that the last words of a dying process are kept. */
export function makeLog(options: { level: LogLevel; format: LogFormat; name: string }): Log {
  const settings: pino.LoggerOptions = {
    level: options.level,
    base: { component: options.name },
    formatters: { log: cutFields },
  };
  const shape = options.format === 'pretty' ? prettyLine : (line: string): string => line;
  return pino(settings, { write: (line) => writeStandardError(shape(withoutCredentials(line))) });
}

/** More than these are not told apart: they share one line in each interval. */
const MOST_KEYS = 1000;
const LONGEST_KEY = 300;
/** The one that all further keys share. */
const OVERFLOW = '\0';

/**
 * Limits repeated log lines: `allow(key)` is true the first time and then at most once per `intervalMs` for each key,
 * and says how often the line was held back since. However many keys there are, neither lines nor memory are without end.
 */
export class LogLimiter {
  private readonly intervalMs: number;
  private readonly seen = new Map<string, { at: number; suppressed: number }>();

  /** When those that are over were last forgotten. */
  private swept = Number.NEGATIVE_INFINITY;

  constructor(intervalMs = 60_000) {
    this.intervalMs = intervalMs;
  }

  /** @returns undefined to stay silent, else the number of lines held back since the last one */
  allow(name: string, now = monotonicMs()): number | undefined {
    const key = this.keyOf(name.slice(0, LONGEST_KEY), now);
    const entry = this.seen.get(key);
    if (entry !== undefined && now - entry.at < this.intervalMs) {
      entry.suppressed++;
      return undefined;
    }
    this.seen.set(key, { at: now, suppressed: 0 });
    return entry?.suppressed ?? 0;
  }

  private keyOf(key: string, now: number): string {
    if (this.seen.size < MOST_KEYS || this.seen.has(key)) return key;
    if (now - this.swept >= this.intervalMs) {
      this.swept = now;
      for (const [old, { at }] of this.seen) if (now - at >= this.intervalMs) this.seen.delete(old);
    }
    return this.seen.size < MOST_KEYS ? key : OVERFLOW;
  }
}
