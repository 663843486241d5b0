import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { makeDirectoryDurably, replaceFile } from '../../process/durable.ts';
import type { CniCall } from '../plan/protocol.ts';

/** Where deletions wait while the agent is away. Both sides derive it from the socket, so they cannot disagree. */
export function queueDirectory(socketPath: string): string {
  return join(dirname(socketPath), 'del-queue');
}

const TRIES = 5;

/**
 * Puts a deletion where the agent will find it, also after a crash of everything but the kernel. The name says nothing of
 * when: the agent carries out what is queued before it adds anything, and a clock can be set back.
 */
export function queueDeletion(socketPath: string, call: CniCall): void {
  const directory = queueDirectory(socketPath);
  const path = join(directory, `${randomBytes(16).toString('hex')}.json`);
  for (let left = TRIES; ; left--) {
    makeDirectoryDurably(directory, 0o700);
    try {
      replaceFile(path, JSON.stringify(call), { mode: 0o600, durable: true });
      return;
    } catch (error) {
      // An agent that starts removes what killed executables were writing, and cannot tell this file from theirs.
      if (left === 1 || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}
