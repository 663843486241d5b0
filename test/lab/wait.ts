import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** Default 60,000 ms: whoever waits for what comes loses nothing by it, and machines are three times as slow at times. */
  readonly timeoutMs?: number;
  /** Called once when the time is over; what it returns is appended to the error. */
  readonly explain?: () => string | Promise<string>;
}

/** Thrown by a check to say that waiting is of no use. */
export class GiveUp extends Error {}

/**
 * Calls `check` until it returns something other than undefined or false; its exceptions count as "not yet".
 * @param what completes the sentence "timed out waiting for …"
 * @throws Error naming `what` and the last exception when the time is over
 */
export async function waitFor<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  options: WaitOptions = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (let delay = 2; ; delay = Math.min(50, delay * 2)) {
    try {
      const value = await check();
      if (value !== undefined && value !== false) return value;
      lastError = undefined;
    } catch (error) {
      if (error instanceof GiveUp) throw error;
      lastError = error;
    }
    if (Date.now() >= deadline) break;
    await sleep(delay);
  }
  const last =
    lastError === undefined
      ? ''
      : `; last error: ${lastError instanceof Error ? lastError.message : lastError}`;
  const explanation = options.explain === undefined ? '' : `\n${await options.explain()}`;
  throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}${last}${explanation}`, {
    cause: lastError,
  });
}
