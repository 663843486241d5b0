import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeDurably } from '../durable.ts';
import type { CniCall } from '../plan/protocol.ts';

/** Where deletions wait while the agent is away. Both sides derive it from the socket, so they cannot disagree. */
export function queueDirectory(socketPath: string): string {
  return join(dirname(socketPath), 'del-queue');
}

/** Puts a deletion where the agent will find it, also after a crash of everything but the kernel. */
export function queueDeletion(socketPath: string, call: CniCall): void {
  const directory = queueDirectory(socketPath);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const queuedAt = Date.now();
  writeDurably(join(directory, `${queuedAt}-${process.pid}.json`), JSON.stringify({ ...call, queuedAt }));
}
