import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { describeError } from '../model/error.ts';
import { monotonicMs } from './clock.ts';
import { removeUnfinished, replaceFile } from './durable.ts';
import { guarded } from './guarded.ts';
import type { Log } from './log.ts';

export interface StateKeeperOptions {
  readonly file: string;
  readonly log: Log;
  /** Changes with what is to be written down: cheap, it is asked for every second. */
  readonly print: () => string;
  /** True while what it works by is only being put together. */
  readonly isStarting?: () => boolean;
  /** What to write down, in order. */
  readonly pieces: () => Iterable<Uint8Array>;
}

const LOOK_MS = 1000;
/** Least milliseconds between writes: where things change all the time the last state need not be the newest. */
const WRITE_MS = 10_000;
/** A start that takes longer is written down all the same: that is when somebody looks. */
const START_MS = 5000;

/**
 * Writes down what a process works by, for whoever looks while it does not answer. Best effort: a disk that is full costs
 * a line in the log.
 * @returns writes the last state, and ends
 */
export function keepState(options: StateKeeperOptions): () => void {
  const { file, log, print, pieces, isStarting } = options;
  const begun = monotonicMs();
  let written: string | undefined;
  let at = Number.NEGATIVE_INFINITY;
  let said = false;
  let swept = false;
  const write = (): void => {
    written = print();
    at = monotonicMs();
    try {
      mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
      if (!swept) removeUnfinished(dirname(file), file);
      swept = true;
      replaceFile(file, pieces(), { mode: 0o600 });
      said = false;
    } catch (error) {
      // The disk may have room later, though nothing else changes.
      written = undefined;
      if (!said) log.warn({ file, error: describeError(error) }, 'the state is not written down');
      said = true;
    }
  };
  const look = (): void => {
    // Thousands of leases take a while to be written, which the first state would wait for.
    if (isStarting?.() === true && monotonicMs() - begun < START_MS) return;
    if (print() !== written && monotonicMs() - at >= WRITE_MS) write();
  };
  const timer = setInterval(guarded(log, 'writing down the state', look), LOOK_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    if (print() !== written) write();
  };
}
