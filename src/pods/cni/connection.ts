import type { Socket } from 'node:net';
import { takeLine } from '../../process/unix-server.ts';
import { type CniAnswer, type CniCall, type InspectCall, maxInput } from '../plan/protocol.ts';

/**
 * Longest request line in bytes: the executable refuses longer input, of which each byte may need three here (what is no
 * UTF-8), and the longest environment.
 */
const MAX_REQUEST = 8 * maxInput;
/** How long a caller may take to say what it wants. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How long one that has its answer may keep the connection: it reads that later, too. */
const CLOSE_TIMEOUT_MS = 3000;

/** Who carries out the calls. */
export interface CallHandler {
  /** @param abandoned says whether the caller has gone away by now */
  answer(call: CniCall, abandoned: () => boolean): Promise<CniAnswer>;
  /** Undoes what was done for a caller that went away without its answer. */
  undo(call: CniCall): Promise<void>;
  /** @returns the answer as one line of JSON */
  inspect(call: InspectCall): Promise<string>;
}

/**
 * Sends the last line. The caller closes when it has read it; one that does not in time is closed on.
 * @returns false when the caller went away without reading it, as a Unix socket tells by ECONNRESET or EPIPE
 */
function deliver(socket: Socket, line: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve(false);
    socket.once('error', () => resolve(false));
    socket.once('close', (failed) => resolve(!failed));
    socket.setTimeout(CLOSE_TIMEOUT_MS);
    socket.write(line);
  });
}

/** One connection carries one call: a line with the request, a line with the answer. */
export function serveConnection(socket: Socket, handler: CallHandler, running: Set<Promise<void>>): void {
  let gone = false;
  socket.on('error', () => {}); // the caller may be killed at any moment; 'close' follows
  // A caller ends its side only by going away.
  for (const event of ['end', 'close'])
    socket.on(event, () => {
      gone = true;
    });
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  const serve = async (line: string): Promise<void> => {
    const request: unknown = JSON.parse(line);
    if (typeof request !== 'object' || request === null) throw new Error('not a call');
    socket.setTimeout(0); // the work takes as long as it takes: the caller has a time-out of its own
    if ('inspect' in request) {
      await deliver(socket, `${await handler.inspect(request as InspectCall)}\n`);
      return;
    }
    const call = request as CniCall;
    const answer = await handler.answer(call, () => gone);
    if (!(await deliver(socket, `${JSON.stringify(answer)}\n`))) await handler.undo(call);
  };
  takeLine(socket, MAX_REQUEST, (line) => {
    const task = serve(line)
      .catch(() => {
        socket.destroy(); // not a call, or nothing that can be answered
      })
      .finally(() => running.delete(task));
    running.add(task);
  });
}
