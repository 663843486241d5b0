import { killChildren } from '../kernel/process.ts';
import { describeError } from '../model/error.ts';
import type { Log } from './log.ts';

/** How long the parts have to end by themselves, milliseconds: a write of many rules is let finish. */
const GRACE_MS = 5000;
/** After this long the process ends, whatever hangs: well within the half minute that Kubernetes waits. */
const LATEST_MS = 10_000;
const KILL_AGAIN_MS = 250;

/** Makes sure that what ends does end: programs that hang are killed, then the process goes. @returns takes that back */
function endInTime(log: Log): () => void {
  let killing: NodeJS.Timeout | undefined;
  const grace = setTimeout(() => {
    log.warn('something hangs: ending the programs that still run');
    // Whoever waited for one may start the next.
    killing = setInterval(() => killChildren('was ended: the process stops'), KILL_AGAIN_MS);
  }, GRACE_MS);
  const latest = setTimeout(() => {
    log.error('something hangs: ending all the same');
    process.exit(1);
  }, LATEST_MS);
  return () => {
    clearTimeout(grace);
    clearTimeout(latest);
    clearInterval(killing);
  };
}

/** Closes one thing that was opened. */
export type Closer = () => Promise<void> | void;

/** The last first; one that fails does not keep the others. */
async function closeAll(closers: readonly Closer[], log: Log): Promise<void> {
  for (const close of [...closers].reverse()) {
    try {
      await close();
    } catch (error) {
      log.warn({ error: describeError(error) }, 'something could not be closed');
    }
  }
}

/**
 * Runs what goes on until SIGTERM or SIGINT, when `signal` is aborted with its name; another one ends the process at once,
 * as by default. Then, or when `work` fails, everything is closed; what hangs meanwhile is ended. To be called once.
 * @param work adds to `closers` what it opens, as soon as that is open
 * @throws what `work` throws before a signal came
 */
export async function runUntilSignal(
  log: Log,
  work: (signal: AbortSignal, closers: Closer[]) => Promise<void>,
): Promise<void> {
  const ending = new AbortController();
  // One that was started while all was being closed has nobody who waits for it.
  process.once('exit', () => killChildren('was ended: the process is gone'));
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => ending.abort(name));
  const closers: Closer[] = [];
  const done = work(ending.signal, closers);
  let failure: unknown;
  try {
    await Promise.race([done, aborted(ending.signal)]);
    log.info({ signal: ending.signal.reason }, 'stopping; the data plane stays');
  } catch (error) {
    failure = error;
  }
  const close = endInTime(log);
  ending.abort();
  await done.catch((error: unknown) => {
    if (failure === undefined) log.debug({ error: describeError(error) }, 'cut short');
  });
  await closeAll(closers, log);
  close();
  if (failure !== undefined) throw failure;
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
