import { createConnection } from 'node:net';
import { TwillError } from '../model/error.ts';
import type { ProcessCondition } from '../process/mark.ts';

/** Who is asked, for messages. */
export type Asked = 'agent' | 'proxy';

/** A question to the agent or the proxy. */
export interface Question {
  readonly inspect: string;
  readonly [parameter: string]: unknown;
}

/** Whoever lives answers within milliseconds, on a busy machine later; one that hangs must not keep people waiting. */
const ANSWER_MS = 3000;

function waitForLine(socketPath: string, question: Question, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = createConnection(socketPath, () => socket.write(`${JSON.stringify(question)}\n`));
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (chunk.at(-1) !== 10) return;
      socket.destroy();
      resolve(Buffer.concat(chunks).toString());
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the connection was closed without an answer')));
  });
}

const onlyRoot = 'only root may ask';

const refusals: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens there',
  EACCES: onlyRoot,
  EPERM: onlyRoot,
};

/** Why a socket cannot be used, in words; what has none is said as it is. */
function inWords(cause: unknown): Error {
  const words = refusals[(cause as NodeJS.ErrnoException).code ?? ''];
  return words === undefined ? (cause as Error) : new Error(words);
}

/**
 * Asks the agent or the proxy, and returns the line that it answers.
 * @throws TwillError naming the socket: `unavailable` when it does not answer in time, `permission` when it may not be asked
 */
export async function ask(
  asked: Asked,
  socketPath: string,
  question: Question,
  timeoutMs = ANSWER_MS,
): Promise<string> {
  try {
    return await waitForLine(socketPath, question, timeoutMs);
  } catch (cause) {
    const why = inWords(cause);
    throw new TwillError(
      why.message === onlyRoot ? 'permission' : 'unavailable',
      `the Twill ${asked} does not answer on ${socketPath}`,
      why,
    );
  }
}

const conditions: Readonly<Record<ProcessCondition, string>> = {
  runs: 'runs and does not answer',
  stopped: 'is stopped by a signal (SIGSTOP; kill -CONT lets it go on)',
  gone: 'is not running',
  elsewhere: 'does not answer',
};

/** Why there is no answer, in words. */
export function describeCondition(asked: Asked, pid: number, condition: ProcessCondition): string {
  const process = condition === 'gone' || condition === 'elsewhere' ? '' : ` (process ${pid})`;
  return `the ${asked}${process} ${conditions[condition]}`;
}
