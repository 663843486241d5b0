import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describeError, TwillError } from '../model/error.ts';
import type { PodRecord } from '../pods/plan/pod.ts';
import { readFileIfPresent } from '../process/files.ts';
import { askLive, lastWords } from './states.ts';

export interface KnownPods {
  readonly pods: readonly PodRecord[];
  /** Why the agent has not said so, and they are from its files; undefined where it has. */
  readonly why: string | undefined;
}

function parseRecord(text: string): PodRecord | undefined {
  try {
    const { version: _, ...record } = JSON.parse(text) as PodRecord & { version?: number };
    return record;
  } catch {
    return undefined;
  }
}

/** The records that an agent has left; undefined where there is no such directory. */
function readRecords(stateDir: string): PodRecord[] | undefined {
  const directory = join(stateDir, 'pods');
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return undefined;
  }
  // One that goes meanwhile was a pod that goes.
  return names
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => parseRecord(readFileIfPresent(join(directory, name)) ?? '') ?? []);
}

/**
 * The pods of this node: the agent is asked, or, where it does not answer, its files are read.
 * @param away why the agent is not to be asked, where that is known
 * @throws TwillError `unavailable` where neither says anything
 */
export async function knownPods(socketPath: string, away?: string): Promise<KnownPods> {
  let cause: unknown = away;
  if (away === undefined) {
    try {
      const { pods } = JSON.parse(await askLive('agent', socketPath, { inspect: 'pods' })) as KnownPods;
      if (Array.isArray(pods)) return { pods, why: undefined };
      cause = new TwillError('invalid', 'the agent is of another version of Twill');
    } catch (error) {
      cause = error;
    }
  }
  const { state, why = describeError(cause) } = lastWords('agent', socketPath, cause);
  const directory = state?.settings.stateDir ?? dirname(socketPath);
  const pods = readRecords(directory);
  if (pods === undefined)
    throw new TwillError('unavailable', `${why}, and there are no records of pods in ${directory}`);
  return { pods, why };
}
