import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, TwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { conditionOf } from '../process/mark.ts';
import { type Asked, ask, describeCondition } from './client.ts';
import { decodeState } from './plan/codec.ts';
import { type AgentState, type ProxyState, STATE_VERSION } from './plan/state.ts';
import { stateFile } from './plan/state-file.ts';

/** What is known of the agent or the proxy. */
export interface Known<T> {
  /** Undefined where it neither answers nor has left word. */
  readonly state: T | undefined;
  /** The process has answered; else the state is what it wrote down last. */
  readonly live: boolean;
  /** Why it has not answered; undefined where it has. */
  readonly why: string | undefined;
}

interface States {
  readonly agent: AgentState;
  readonly proxy: ProxyState;
}

/** @throws TwillError `invalid` for one of another version */
function understood<K extends Asked>(asked: K, text: string, from: string): States[K] {
  let state: Partial<States[K]> | undefined;
  try {
    state = decodeState(text) as Partial<States[K]>;
  } catch {
    // as of another version
  }
  if (state?.kind === asked && state.version === STATE_VERSION) return state as States[K];
  throw new TwillError(
    'invalid',
    `the ${asked} at ${from} is of another version of Twill: use the twill command that came with it`,
  );
}

/** What the agent or the proxy has written down. @param cause why it is not asked */
export function lastWords<K extends Asked>(asked: K, socketPath: string, cause: unknown): Known<States[K]> {
  const file = stateFile(socketPath, asked);
  const text = readFileIfPresent(file);
  if (text === undefined) return { state: undefined, live: false, why: describeError(cause) };
  try {
    const state = understood(asked, text, file);
    const { pid } = state.process;
    return { state, live: false, why: describeCondition(asked, pid, conditionOf(state.process)) };
  } catch (error) {
    return { state: undefined, live: false, why: `${describeError(cause)}; ${describeError(error)}` };
  }
}

/** One that answers does so within this; of one that has not yet it is looked up whether it is stopped. */
const PROMPT_MS = 150;

/** Its last words, where it is stopped: it will not answer. */
async function stoppedWords<K extends Asked>(
  asked: K,
  socketPath: string,
): Promise<Known<States[K]> | undefined> {
  await sleep(PROMPT_MS, undefined, { ref: false });
  const words = lastWords(asked, socketPath, 'it does not answer');
  return words.state !== undefined && conditionOf(words.state.process) === 'stopped' ? words : undefined;
}

async function know<K extends Asked>(asked: K, socketPath: string): Promise<Known<States[K]>> {
  const answered = ask(asked, socketPath, { inspect: 'state' }).then(
    (text): Known<States[K]> => ({ state: understood(asked, text, socketPath), live: true, why: undefined }),
    (cause: unknown) => lastWords(asked, socketPath, cause),
  );
  const stopped = stoppedWords(asked, socketPath).then((words) => words ?? answered);
  return await Promise.race([answered, stopped]);
}

/** What the agent says of itself now, or, where it does not answer, has written down. */
export const agentState = (socketPath: string): Promise<Known<AgentState>> => know('agent', socketPath);

/** The same of the proxy. */
export const proxyState = (socketPath: string): Promise<Known<ProxyState>> => know('proxy', socketPath);
