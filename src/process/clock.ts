import { uptime } from 'node:os';

/**
 * The clocks. The wall clock can be set at any moment, by an administrator or by the time service at boot, so that nothing
 * may be measured with it: a wait would last for hours, or a repair not come. It is for what people read and for what
 * other programs understand only so. Lint lets nobody else ask for it.
 */

/** Milliseconds since this process began, by the monotonic clock: for every interval, age, time-out and order. */
export function monotonicMs(): number {
  return performance.now();
}

/** Seconds since this machine was started, the time that it slept included. */
export function bootSeconds(): number {
  return uptime();
}

/** Milliseconds since the epoch, as this node believes: a time stamp, never one side of a difference of two readings. */
export function wallClockMs(): number {
  return Date.now();
}

/** Node fires a timer at once that is to wait for longer (24.8 days): whoever waits for what a user says waits at most so long. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A time stamp as people and JSON have it. @param ms milliseconds since the epoch */
export function isoTime(ms = wallClockMs()): string {
  return new Date(ms).toISOString();
}

/** Milliseconds since the epoch of a time stamp in a document; NaN where it is none. */
export function parseTime(text: string): number {
  return Date.parse(text);
}
