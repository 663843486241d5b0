import { describeError } from '../model/error.ts';
import type { Removal } from '../model/removal.ts';

export interface RemovalOutcome {
  readonly removed: readonly string[];
  /** What was not taken away, each with the reason. */
  readonly left: readonly string[];
  /** The first failure of what was looked at: trying again may help. */
  readonly failure: Error | undefined;
}

/** Takes everything away that can be: nothing that fails keeps the rest. */
export async function applyRemovals(removals: readonly Removal[]): Promise<RemovalOutcome> {
  const removed: string[] = [];
  const left: string[] = [];
  let failure: Error | undefined;
  for (const { what, apply, hindrance } of removals) {
    try {
      removed.push((await apply()) ?? what);
    } catch (error) {
      left.push(`${what}: ${describeError(error)}`);
      if (hindrance === undefined) failure ??= error as Error;
    }
  }
  return { removed, left, failure };
}
