import { chmodSync } from 'node:fs';
import { createConnection, type Server, type Socket } from 'node:net';
import { TwillError } from '../model/error.ts';
import { unlinkIfPresent } from './files.ts';

/** True when somebody listens on the Unix socket. */
export function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(socketPath);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

/**
 * Listens on a Unix socket that root alone may use, in the place of one that nobody serves any more.
 * @throws TwillError `unavailable`
 */
export function listenOn(server: Server, socketPath: string): Promise<void> {
  unlinkIfPresent(socketPath);
  return new Promise((resolve, reject) => {
    // Later ones are about one caller, whose connection could not be accepted; it tries again.
    server.on('error', (cause) =>
      reject(new TwillError('unavailable', `cannot listen on ${socketPath}`, cause)),
    );
    server.listen(socketPath, () => {
      chmodSync(socketPath, 0o600);
      resolve();
    });
  });
}

/** Takes the one line that a connection carries; who sends more than `most` bytes is cut off. */
export function takeLine(socket: Socket, most: number, take: (line: string) => void): void {
  const chunks: Buffer[] = [];
  let length = 0;
  const receive = (chunk: Buffer): void => {
    chunks.push(chunk);
    length += chunk.length;
    if (length > most) {
      socket.destroy();
      return;
    }
    if (!chunk.includes(10)) return;
    socket.off('data', receive);
    socket.resume(); // so that a caller that goes away is noticed
    take(Buffer.concat(chunks).toString());
  };
  socket.on('data', receive);
}
