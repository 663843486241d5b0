import { mkdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { TwillError } from '../model/error.ts';
import { isServed, listenOn, takeLine } from './unix-server.ts';

/** Questions are short; whoever sends more is not one of ours. */
const MAX_QUESTION = 64 * 1024;
const TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 20;

/** A question, as it came: any JSON object. */
export type AskedQuestion = Readonly<Record<string, unknown>>;

/** @returns the answer as one line of JSON */
export type Answering = (question: AskedQuestion) => Promise<string>;

async function answerOne(socket: Socket, line: string, answer: Answering, timeoutMs: number): Promise<void> {
  const question: unknown = JSON.parse(line);
  if (typeof question !== 'object' || question === null) throw new Error('not a question');
  const text = await answer(question as AskedQuestion);
  socket.setTimeout(timeoutMs);
  socket.end(`${text}\n`);
}

/** One connection carries one question, a line, and its answer. */
function serve(socket: Socket, answer: Answering, timeoutMs: number): void {
  socket.on('error', () => {}); // who asks may go away at any moment
  socket.setTimeout(timeoutMs, () => socket.destroy());
  takeLine(socket, MAX_QUESTION, (line) => {
    socket.setTimeout(0); // the work takes as long as it takes: who asks has a time-out of its own
    answerOne(socket, line, answer, timeoutMs).catch(() => socket.destroy());
  });
}

/**
 * Answers questions of inspection commands on a Unix socket that root alone may use.
 * @param timeoutMs how long one may take to ask, and to read the answer
 * @returns closes it
 * @throws TwillError `conflict` when somebody listens there already, `unavailable` when nobody can
 */
export async function serveQuestions(
  socketPath: string,
  answer: Answering,
  timeoutMs = TIMEOUT_MS,
): Promise<() => Promise<void>> {
  try {
    mkdirSync(dirname(socketPath), { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new TwillError('unavailable', `cannot listen on ${socketPath}`, cause);
  }
  if (await isServed(socketPath))
    throw new TwillError('conflict', `another process listens on ${socketPath}`);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    serve(socket, answer, timeoutMs);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await listenOn(server, socketPath);
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    });
}
