import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { TwillError } from '../model/error.ts';

/** Questions are short; whoever sends more is not one of ours. */
const MAX_QUESTION = 64 * 1024;
const TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 20;

/** A question, as it came: any JSON object. */
export type AskedQuestion = Readonly<Record<string, unknown>>;

/** @returns the answer as one line of JSON */
export type Answering = (question: AskedQuestion) => Promise<string>;

/** True when somebody listens there. */
function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(socketPath);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

async function answerOne(socket: Socket, line: string, answer: Answering): Promise<void> {
  const question: unknown = JSON.parse(line);
  if (typeof question !== 'object' || question === null) throw new Error('not a question');
  socket.end(`${await answer(question as AskedQuestion)}\n`);
}

/** One connection carries one question, a line, and its answer. */
function serve(socket: Socket, answer: Answering): void {
  const chunks: Buffer[] = [];
  let length = 0;
  socket.on('error', () => {}); // who asks may go away at any moment
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy());
  const receive = (chunk: Buffer): void => {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_QUESTION) {
      socket.destroy();
      return;
    }
    if (!chunk.includes(10)) return;
    socket.off('data', receive);
    socket.resume();
    answerOne(socket, Buffer.concat(chunks).toString(), answer).catch(() => socket.destroy());
  };
  socket.on('data', receive);
}

function listen(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (cause) =>
      reject(new TwillError('unavailable', `cannot listen on ${socketPath}`, cause)),
    );
    server.listen(socketPath, () => {
      chmodSync(socketPath, 0o600);
      resolve();
    });
  });
}

/**
 * Answers questions of inspection commands on a Unix socket that root alone may use.
 * @returns closes it
 * @throws TwillError `conflict` when somebody listens there already, `unavailable` when nobody can
 */
export async function serveQuestions(socketPath: string, answer: Answering): Promise<() => Promise<void>> {
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
    serve(socket, answer);
  });
  server.maxConnections = MAX_CONNECTIONS;
  rmSync(socketPath, { force: true });
  await listen(server, socketPath);
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    });
}
