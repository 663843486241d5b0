import { createConnection } from 'node:net';
import { TwillError } from '../model/error.ts';
import type { InspectCall } from '../pods/plan/protocol.ts';

/**
 * Asks the agent a question about its pods.
 * @throws TwillError `unavailable` naming the socket when it does not answer
 */
export function askAgent<T>(socketPath: string, call: InspectCall): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (cause?: unknown): void =>
      reject(new TwillError('unavailable', `the Twill agent does not answer on ${socketPath}`, cause));
    const chunks: Buffer[] = [];
    const socket = createConnection(socketPath, () => socket.write(`${JSON.stringify(call)}\n`));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (chunk.at(-1) !== 10) return;
      socket.destroy();
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()) as T);
      } catch (cause) {
        fail(cause);
      }
    });
    socket.on('error', fail);
    socket.on('close', () => fail());
  });
}
