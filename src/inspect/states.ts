import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, isTwillError, TwillError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { conditionOf } from '../process/mark.ts';
import { type Asked, ask, describeCondition, type Question } from './client.ts';
import { decodeState } from './plan/codec.ts';
import {
  type AnyAgentState,
  type AnyProxyState,
  completeAgentState,
  completeProxyState,
} from './plan/earlier-states.ts';
import { type AgentState, type ProcessMark, type ProxyState, STATE_VERSION } from './plan/state.ts';
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

const complete: { readonly [K in Asked]: (state: object) => States[K] } = {
  agent: (state) => completeAgentState(state as AnyAgentState),
  proxy: (state) => completeProxyState(state as AnyProxyState),
};

/** @throws TwillError `invalid` for one of another version */
function understood<K extends Asked>(asked: K, text: string, from: string): States[K] {
  let state: Partial<States[K]> | undefined;
  try {
    state = decodeState(text) as Partial<States[K]>;
  } catch {
    // as of another version
  }
  if (state?.kind === asked && state.version === STATE_VERSION) return complete[asked](state);
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
/** Characters at the beginning of a state in which it says whose it is. */
const MARK_WITHIN = 2000;

/** Whether the process that has written its state down is stopped: it will not answer. The state may be megabytes. */
function isStopped(asked: Asked, socketPath: string): boolean {
  const text = readFileIfPresent(stateFile(socketPath, asked))?.slice(0, MARK_WITHIN) ?? '';
  const [, mark] = /"process":(\{[^{}]*\})/.exec(text) ?? [];
  if (mark === undefined) return false;
  try {
    return conditionOf(JSON.parse(mark) as ProcessMark) === 'stopped';
  } catch {
    return false;
  }
}

/**
 * Asks as `ask` does; one that is stopped is not waited for.
 * @throws TwillError `unavailable`
 */
export async function askLive(
  asked: Asked,
  socketPath: string,
  question: Question,
  timeoutMs?: number,
): Promise<string> {
  const answer = ask(asked, socketPath, question, timeoutMs);
  const stopped = sleep(PROMPT_MS, undefined, { ref: false }).then(() => {
    if (isStopped(asked, socketPath))
      throw new TwillError('unavailable', `the ${asked} is stopped by a signal`);
    return answer;
  });
  return await Promise.race([answer, stopped]);
}

async function know<K extends Asked>(asked: K, socketPath: string): Promise<Known<States[K]>> {
  let text: string;
  try {
    text = await askLive(asked, socketPath, { inspect: 'state' });
  } catch (cause) {
    // Who may not ask knows nothing, not even that it is away.
    if (isTwillError(cause, 'permission')) throw cause;
    return lastWords(asked, socketPath, cause);
  }
  return { state: understood(asked, text, socketPath), live: true, why: undefined };
}

/** What the agent says of itself now, or, where it does not answer, has written down. */
export const agentState = (socketPath: string): Promise<Known<AgentState>> => know('agent', socketPath);

/** The same of the proxy. */
export const proxyState = (socketPath: string): Promise<Known<ProxyState>> => know('proxy', socketPath);
