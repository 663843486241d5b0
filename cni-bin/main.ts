// The CNI executable. It is started anew for every call, so it is thin: it passes the call to the agent's socket and
// prints the answer. What it decides itself is what to do when the agent cannot be asked.
import {
  type CniAnswer,
  type CniCall,
  type CniEnvironment,
  callDeadlineMs,
  cniErrors,
  cniVariables,
  defaultSocket,
  failureAnswer,
  versionAnswer,
} from '../src/cni/protocol.ts';

declare const TWILL_VERSION: string;

async function finish(answer: CniAnswer): Promise<void> {
  if (answer.output.length > 0) await Bun.write(Bun.stdout, answer.output);
  process.exit(answer.status);
}

function readEnvironment(): CniEnvironment {
  const environment: CniEnvironment = {};
  for (const name of cniVariables) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

/** The part of Bun's API that is used: it starts 5 ms sooner than Bun's node:net and node:fs. */
declare const Bun: {
  readonly stdin: { text(): Promise<string> };
  readonly stdout: unknown;
  write(destination: unknown, text: string): Promise<number>;
  connect(options: {
    unix: string;
    socket: {
      open(socket: BunSocket): void;
      drain(socket: BunSocket): void;
      data(socket: BunSocket, chunk: Uint8Array): void;
      close(): void;
      error(socket: BunSocket, error: Error): void;
    };
  }): Promise<unknown>;
};

interface BunSocket {
  /** @returns the number of bytes that were taken; the rest is for `drain` */
  write(data: Uint8Array): number;
}

const connectFailures: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens on it',
};

/** Asks the agent; rejects with the reason when there is no whole answer within the deadline. */
function ask(socketPath: string, call: CniCall, deadlineMs: number): Promise<CniAnswer> {
  return new Promise((resolve, reject) => {
    let unsent: Uint8Array = Buffer.from(`${JSON.stringify(call)}\n`);
    const chunks: Uint8Array[] = [];
    const send = (socket: BunSocket): void => {
      unsent = unsent.subarray(socket.write(unsent));
    };
    setTimeout(() => reject(new Error(`no answer within ${deadlineMs} ms`)), deadlineMs);
    Bun.connect({
      unix: socketPath,
      socket: {
        open: send,
        drain: send,
        data: (_socket, chunk) => {
          chunks.push(Buffer.from(chunk));
          if (chunk.at(-1) === 10) resolve(JSON.parse(Buffer.concat(chunks).toString()) as CniAnswer);
        },
        close: () => reject(new Error('the agent closed the connection without an answer')),
        error: (_socket, error) => reject(error),
      },
    }).catch((error: { code?: string }) =>
      reject(new Error(connectFailures[error.code ?? ''] ?? String(error))),
    );
  });
}

async function withoutAgent(
  call: CniCall,
  socketPath: string,
  version: unknown,
  reason: string,
): Promise<CniAnswer> {
  const command = call.environment.CNI_COMMAND;
  const unreachable = `the Twill agent does not answer on ${socketPath}: ${reason}`;
  if (command !== 'DEL') {
    const code = command === 'STATUS' ? cniErrors.notAvailable : cniErrors.tryAgainLater;
    return failureAnswer({ code, msg: `${unreachable}; is it running on this node?` }, version);
  }
  try {
    const { queueDeletion } = await import('../src/cni/deletions.ts');
    queueDeletion(socketPath, call);
    console.error(`${unreachable}; the deletion is queued`);
    return { status: 0, output: '' };
  } catch (error) {
    const msg = `${unreachable}, and the deletion could not be queued: ${(error as Error).message}`;
    return failureAnswer({ code: cniErrors.ioFailure, msg }, version);
  }
}

async function main(): Promise<CniAnswer> {
  const environment = readEnvironment();
  if (environment.CNI_COMMAND === undefined) {
    const msg = `CNI_COMMAND is not set: twill ${TWILL_VERSION} is a CNI plugin, called by a container runtime`;
    return failureAnswer({ code: cniErrors.invalidEnvironment, msg }, undefined);
  }
  let input = '';
  let config: { cniVersion?: unknown; socket?: unknown; timeoutSeconds?: unknown };
  try {
    input = await Bun.stdin.text();
    config = JSON.parse(input);
    if (typeof config !== 'object' || config === null || Array.isArray(config))
      throw new Error('not an object');
  } catch (error) {
    if (environment.CNI_COMMAND === 'VERSION' && input.trim() === '') return versionAnswer(undefined);
    const msg = `the network configuration on standard input is not a JSON object: ${(error as Error).message}`;
    return failureAnswer({ code: cniErrors.decodeFailure, msg }, undefined);
  }
  const version = config.cniVersion;
  if (environment.CNI_COMMAND === 'VERSION') return versionAnswer(version);
  const socketPath = typeof config.socket === 'string' ? config.socket : defaultSocket;
  const { timeoutSeconds: seconds } = config;
  const deadlineMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : callDeadlineMs;
  const call: CniCall = { environment, input };
  try {
    return await ask(socketPath, call, deadlineMs);
  } catch (error) {
    return await withoutAgent(call, socketPath, version, (error as Error).message);
  }
}

main().then(finish);
