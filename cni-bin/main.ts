// The CNI executable. It is started anew for every call, so it is thin: it passes the call to the agent's socket and
// prints the answer. What it decides itself is what to do when the agent cannot be asked.
import { goField } from '../src/model/go-json.ts';
import {
  type CniAnswer,
  type CniCall,
  type CniEnvironment,
  callDeadlineMs,
  cniErrors,
  cniVariables,
  defaultSocket,
  failureAnswer,
  maxDeletionInput,
  maxInput,
  protocolVersion,
  versionAnswer,
} from '../src/pods/plan/protocol.ts';
import { askSocket, finish, readInput } from './libc.ts';

declare const TWILL_VERSION: string;

function readEnvironment(): CniEnvironment {
  const environment: CniEnvironment = {};
  for (const name of cniVariables) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
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
    const { queueDeletion } = await import('../src/pods/cni/deletions.ts');
    queueDeletion(socketPath, call);
    console.error(`${unreachable}; the deletion is queued`);
    return { status: 0, output: '' };
  } catch (error) {
    const msg = `${unreachable}, and the deletion could not be queued: ${(error as Error).message}`;
    return failureAnswer({ code: cniErrors.ioFailure, msg }, version);
  }
}

/** Seconds: a day. The kernel takes no number without end. */
const LONGEST_WAIT = 86_400;

/** What is wrong with the fields that the executable itself reads. Empty, and zero, are the defaults. */
function ownFieldsProblem(socket: unknown, seconds: unknown): string | undefined {
  if (typeof socket !== 'string') return `socket is ${JSON.stringify(socket)}: it must be a path`;
  if (typeof seconds !== 'number' || seconds < 0)
    return `timeoutSeconds is ${JSON.stringify(seconds)}: it must be a number of seconds`;
  return undefined;
}

async function main(): Promise<CniAnswer> {
  const environment = readEnvironment();
  if (environment.CNI_COMMAND === undefined) {
    const msg = `CNI_COMMAND is not set: twill ${TWILL_VERSION} is a CNI plugin, called by a container runtime`;
    return failureAnswer({ code: cniErrors.invalidEnvironment, msg }, undefined);
  }
  const isDeletion = environment.CNI_COMMAND === 'DEL';
  const most = isDeletion ? maxDeletionInput : maxInput;
  let input: string | undefined = '';
  let config: Readonly<Record<string, unknown>>;
  try {
    input = readInput(most);
    if (input === undefined) {
      const msg = `the network configuration on standard input has more than ${most} bytes`;
      return failureAnswer({ code: cniErrors.invalidConfig, msg }, undefined);
    }
    config = JSON.parse(input);
    if (typeof config !== 'object' || config === null || Array.isArray(config))
      throw new Error('not an object');
  } catch (error) {
    if (environment.CNI_COMMAND === 'VERSION' && input?.trim() === '') return versionAnswer(undefined);
    const msg = `the network configuration on standard input is not a JSON object: ${(error as Error).message}`;
    return failureAnswer({ code: cniErrors.decodeFailure, msg }, undefined);
  }
  const version = goField(config, 'cniVersion');
  if (environment.CNI_COMMAND === 'VERSION') return versionAnswer(version);
  // What ADD took must go with DEL, also with ADD's result beside it; DEL needs no more of it than this.
  if (isDeletion && input.length > maxInput)
    input = JSON.stringify({ cniVersion: version, name: goField(config, 'name') });
  const [socket, seconds] = [goField(config, 'socket') ?? '', goField(config, 'timeoutSeconds') ?? 0];
  const problem = isDeletion ? undefined : ownFieldsProblem(socket, seconds);
  if (problem !== undefined)
    return failureAnswer(
      { code: cniErrors.invalidConfig, msg: `network configuration: ${problem}` },
      version,
    );
  const socketPath = typeof socket === 'string' && socket !== '' ? socket : defaultSocket;
  const deadlineMs =
    typeof seconds === 'number' && seconds > 0 ? Math.min(seconds, LONGEST_WAIT) * 1000 : callDeadlineMs;
  const call: CniCall = { protocol: protocolVersion, environment, input };
  try {
    return JSON.parse(askSocket(socketPath, `${JSON.stringify(call)}\n`, deadlineMs)) as CniAnswer;
  } catch (error) {
    return await withoutAgent(call, socketPath, version, (error as Error).message);
  }
}

main().then(({ output, status }) => finish(output, status));
