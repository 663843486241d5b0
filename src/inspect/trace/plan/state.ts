import { type Fraction, times, whole } from './fraction.ts';
import type { Ends, Packet } from './packet.ts';

/** What a step is about: the first word of its line. */
export type StepKind =
  | 'send'
  | 'route'
  | 'rule'
  | 'policy'
  | 'translate'
  | 'neighbour'
  | 'forwarding'
  | 'bridge'
  | 'device'
  | 'tunnel'
  | 'setting'
  | 'doubt'
  | 'note'
  | 'answer';

/** One thing that happens to a packet. What does not belong to its kind is absent. */
export interface Step {
  /** The namespace: `node`, or the pod's name. */
  readonly where: string;
  readonly kind: StepKind;
  /** One line for people. */
  readonly text: string;
  /** Of rules: who keeps them, and where they stand. */
  readonly program?: 'iptables-nft' | 'iptables-legacy' | 'nft';
  readonly table?: string;
  readonly chain?: string;
  readonly rule?: string;
  readonly comment?: string;
  /** How many packets the rule has matched so far; undefined where nobody counts. */
  readonly packets?: number;
  readonly device?: string;
}

/** Steps so far, the last one first: branches share their common beginning. */
export interface Trail {
  readonly step: Step;
  readonly before: Trail | undefined;
}

/** What connection tracking of a namespace has written down of the packet that began it all. */
export interface Connection {
  readonly where: string;
  readonly original: Ends;
  /** As answers will come. */
  readonly reply: Ends;
  readonly mark: number;
}

/** One way that a packet may go. */
export interface State {
  readonly packet: Packet;
  /** How many of all connections go this way, as far as chance decides. */
  readonly share: Fraction;
  /** What was not understood, or depends on what cannot be known here: this way only if it is so. */
  readonly doubts: readonly string[];
  readonly trail: Trail | undefined;
  readonly connections: readonly Connection[];
  /** What the packet carries, the outer one first: a tunnel's packet has another one inside. */
  readonly carried: readonly Packet[];
  /** The largest packet that got through all devices so far, in bytes. */
  readonly mtu: number | undefined;
}

/** The packet that it is about, whatever carries it now. */
export const innermost = ({ packet, carried }: State): Packet => carried.at(-1) ?? packet;

export function begin(packet: Packet): State {
  return { packet, share: whole, doubts: [], trail: undefined, connections: [], carried: [], mtu: undefined };
}

export function withStep(state: State, step: Step): State {
  return { ...state, trail: { step, before: state.trail } };
}

export function withPacket(state: State, change: Partial<Packet>): State {
  return { ...state, packet: { ...state.packet, ...change } };
}

export function withShare(state: State, share: Fraction): State {
  return { ...state, share: times(state.share, share) };
}

export function withDoubt(state: State, doubt: string): State {
  return state.doubts.includes(doubt) ? state : { ...state, doubts: [...state.doubts, doubt] };
}

/** The steps in their order. */
export function stepsOf(trail: Trail | undefined): Step[] {
  const steps: Step[] = [];
  for (let at = trail; at !== undefined; at = at.before) steps.push(at.step);
  return steps.reverse();
}
