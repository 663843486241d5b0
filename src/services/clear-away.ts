import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../model/error.ts';
import type { Log } from '../process/log.ts';
import { removeOtherMode } from './cleanup.ts';
import type { ProxyMode } from './plan/mode.ts';
import { removeLeftovers } from './predecessor.ts';

/** A lock that somebody holds, a kernel that is short of memory: soon it may be otherwise. */
const AGAIN_MS = 2000;
const MOST_MS = 300_000;

interface Cleared {
  /** What could not be removed, with the reasons. */
  readonly left: readonly string[];
  /** Whether trying again may help. */
  readonly again: boolean;
}

async function rulesOfOtherMode(mode: ProxyMode, log: Log): Promise<Cleared> {
  try {
    const { removed, left, failure } = await removeOtherMode(mode);
    if (removed.length > 0) log.info({ removed }, 'rules of another mode are removed');
    return { left, again: failure !== undefined };
  } catch (error) {
    return { left: [`rules of another mode: ${describeError(error)}`], again: true };
  }
}

async function clearOnce(mode: ProxyMode, log: Log): Promise<Cleared> {
  const others = await rulesOfOtherMode(mode, log);
  const { removed, left, again } = await removeLeftovers();
  if (removed.length > 0) log.info({ removed }, 'what a kube-proxy in another mode had left is removed');
  return { left: [...others.left, ...left], again: others.again || again };
}

/**
 * Removes the rules of the mode that the proxy does not run in, and what a kube-proxy in another mode has left; again where
 * that may help.
 * @param told is where others see what is left
 */
export async function clearAway(
  mode: ProxyMode,
  told: { leftovers: readonly string[] },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  for (let wait = AGAIN_MS; !signal.aborted; wait = Math.min(2 * wait, MOST_MS)) {
    const before = told.leftovers.join();
    const { left, again } = await clearOnce(mode, log);
    told.leftovers = left;
    if (left.length > 0 && left.join() !== before)
      log.warn({ left, again }, 'rules of another mode, or what a kube-proxy has left, cannot be removed');
    if (!again) return;
    await sleep(wait, undefined, { signal, ref: false }).catch(() => {});
  }
}
