import { describeError } from '../model/error.ts';
import { type Log, LogLimiter } from './log.ts';

/**
 * Makes a timer's or an event's handler of the work: nobody stands above such a one to catch what it throws, and the
 * process would end. The failure is logged, once a minute at most while it is the same; the next call tries again.
 * @param what completes the sentence "… failed, will be tried again"
 */
export function guarded<A extends readonly unknown[]>(
  log: Log,
  what: string,
  work: (...args: A) => unknown,
): (...args: A) => void {
  const limiter = new LogLimiter();
  const failed = (error: unknown): void => {
    const reason = describeError(error);
    if (limiter.allow(reason) !== undefined)
      log.warn({ error: reason }, `${what} failed, will be tried again`);
  };
  return (...args) => {
    try {
      const result = work(...args);
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}
