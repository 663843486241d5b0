import { parseTime } from '../process/clock.ts';

/** Time since then, in the largest unit that says enough. @param since ISO 8601 @param now milliseconds */
export function age(since: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - parseTime(since)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
