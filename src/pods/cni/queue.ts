import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../../model/error.ts';
import type { Log } from '../../process/log.ts';
import { type CniAnswer, type CniCall, type CniFailure, cniErrors } from '../plan/protocol.ts';
import { queueDirectory } from './deletions.ts';

const hopeless: readonly number[] = [
  cniErrors.incompatibleVersion,
  cniErrors.invalidEnvironment,
  cniErrors.decodeFailure,
  cniErrors.invalidConfig,
];

async function drainFile(
  path: string,
  handle: (call: CniCall) => Promise<CniAnswer>,
  log: Log,
): Promise<void> {
  let call: CniCall;
  try {
    call = JSON.parse(readFileSync(path, 'utf8')) as CniCall;
  } catch (error) {
    log.error({ file: path, error: describeError(error) }, 'unreadable queued deletion: dropped');
    rmSync(path, { force: true });
    return;
  }
  const { status, output } = await handle(call);
  // A deletion that fails stays; one whose parameters are wrong would fail for ever, and has nothing to delete.
  if (status === 0 || hopeless.includes((JSON.parse(output) as CniFailure).code))
    rmSync(path, { force: true });
}

/**
 * Carries out the deletions that the executable queued while the agent was away. One that fails stays queued and does
 * not stop the others.
 */
export async function drainQueue(
  socketPath: string,
  handle: (call: CniCall) => Promise<CniAnswer>,
  log: Log,
): Promise<void> {
  const directory = queueDirectory(socketPath);
  let names: string[];
  try {
    names = readdirSync(directory).filter((name) => name.endsWith('.json'));
  } catch {
    return; // nothing was ever queued
  }
  if (names.length > 0) log.info({ count: names.length }, 'carrying out queued CNI deletions');
  await Promise.all(names.map((name) => drainFile(join(directory, name), handle, log)));
}
