import type { LoopState } from './state.ts';

/** How a loop says that it does. */
interface Status {
  readonly name: string;
  readonly runs: number;
  readonly failures: number;
  readonly lastSuccess: number | undefined;
  readonly lastError: string | undefined;
  readonly nextRunMs: number | undefined;
  readonly stuckMs: number;
}

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

/** A loop's status for people and JSON. @param iso a time stamp's text */
export function loopState(status: Status, iso: (ms: number) => string): LoopState {
  const { name, runs, failures, lastSuccess, lastError, nextRunMs, stuckMs } = status;
  return {
    name,
    runs,
    failures,
    lastSuccess: lastSuccess === undefined ? undefined : iso(lastSuccess),
    lastError,
    nextRunSeconds: nextRunMs === undefined ? undefined : seconds(nextRunMs),
    stuckSeconds: seconds(stuckMs),
  };
}
