import pino from 'pino';
import { withoutCredentials } from '../model/error.ts';
import { isoTime, monotonicMs } from './clock.ts';
import { writeStandardError } from './standard-error.ts';

export type Log = pino.Logger;

export type LogFormat = 'json' | 'pretty';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

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
  return `${isoTime(time as number).slice(11, 23)} ${label} ${msg}${rest}\n`;
}

/** A logger on standard error. Logging is synchronous, so that the last words of a dying process are kept. */
export function makeLog(options: { level: LogLevel; format: LogFormat; name: string }): Log {
  const settings: pino.LoggerOptions = { level: options.level, base: { component: options.name } };
  const shape = options.format === 'pretty' ? prettyLine : (line: string): string => line;
  return pino(settings, { write: (line) => writeStandardError(shape(withoutCredentials(line))) });
}

/**
 * Limits repeated log lines: `allow(key)` is true the first time and then at most once per `intervalMs` for each key,
 * and says how often the line was held back since.
 */
export class LogLimiter {
  private readonly intervalMs: number;
  private readonly seen = new Map<string, { at: number; suppressed: number }>();

  constructor(intervalMs = 60_000) {
    this.intervalMs = intervalMs;
  }

  /** @returns undefined to stay silent, else the number of lines held back since the last one */
  allow(key: string, now = monotonicMs()): number | undefined {
    const entry = this.seen.get(key);
    if (entry !== undefined && now - entry.at < this.intervalMs) {
      entry.suppressed++;
      return undefined;
    }
    if (this.seen.size > 1000) this.seen.clear();
    this.seen.set(key, { at: now, suppressed: 0 });
    return entry?.suppressed ?? 0;
  }
}
