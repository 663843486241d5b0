import type { Difference } from '../../plan/difference.ts';
import type { Problem } from '../../plan/problem.ts';
import type { StatusAnswer } from '../../plan/status.ts';

/**
 * What the page is told, an event of a stream each, and what its script reads: both are compiled against this. Every list
 * is bounded; `more` says how many it has left out.
 */

/** A list that may be long: the page has all of it once, and then what has changed. A row's first cell is its name. */
export interface RowsEvent<R extends readonly [name: string, ...cells: unknown[]]> {
  /** All of them, in place of what the page has; else only those that have changed. */
  readonly whole: boolean;
  readonly rows: readonly R[];
  /** Names of those that are there no more. */
  readonly gone: readonly string[];
  /** Those that no list has room for. */
  readonly more: number;
}

/** Another node's subnet. */
export type NodeRow = readonly [
  subnet: string,
  lease: string,
  /** The node's public IP. */
  underlay: string,
  device: string,
  /** How the kernel would send to the first pod there; empty where thousands are well. */
  way: string,
  /** What is wrong, in words; empty where all is well. */
  trouble: string,
  /** What agents that ask each other have noticed, and is no fault of this node's; empty where that is nothing. */
  doubt: string,
  /** How long an answer takes by the way of pods' packets, and how many were lost; empty where that is not measured. */
  measured: string,
];

export interface NodesEvent extends RowsEvent<NodeRow> {
  /** Entries in the kernel that belong to no node. */
  readonly foreign: readonly string[];
  readonly away: string | undefined;
}

export interface PodView {
  /** `namespace/name`; undefined where the runtime has not said so. */
  readonly name: string | undefined;
  readonly container: string;
  readonly addresses: readonly string[];
  readonly veth: string;
  readonly hostPorts: readonly string[];
  readonly createdAt: string;
  readonly adopted: boolean;
  readonly troubles: readonly string[];
}

export interface PodsEvent {
  readonly pods: readonly PodView[];
  readonly more: number;
  readonly away: string | undefined;
}

/** A Service: of ten thousand the names of fields would be most of what is sent. */
export type ServiceView = readonly [
  name: string,
  type: string,
  clusterIPs: readonly string[],
  /** Its other addresses, each with what it is. */
  others: readonly string[],
  ports: readonly (readonly [name: string, port: number, nodePort: number, protocol: string])[],
  endpoints: readonly [ready: number, local: number, terminating: number, notReady: number],
  /** What keeps traffic from it, in words; empty where nothing does that is known. */
  trouble: string,
  /** Ports beside those above: a Service may have thousands. */
  morePorts: number,
];

export interface ServicesEvent extends RowsEvent<ServiceView> {
  readonly away: string | undefined;
}

export interface StatusEvent extends Omit<StatusAnswer, 'mesh'> {
  readonly problems: readonly Problem[];
  /** How other nodes are reached, in one line. */
  readonly mesh: string;
  readonly more: number;
}

export interface DriftEvent {
  readonly differences: readonly Difference[];
  readonly more: number;
  /** What could not be compared, and why. */
  readonly unknown: readonly string[];
}

/** The parts of the page that a look fills, in the order in which it does. */
export const parts = ['status', 'nodes', 'pods', 'services', 'drift'] as const;
export type Part = (typeof parts)[number];

export interface PageEvents {
  readonly status: StatusEvent;
  readonly nodes: NodesEvent;
  readonly pods: PodsEvent;
  readonly services: ServicesEvent;
  readonly drift: DriftEvent;
  /** A part could not be looked at: what the page has of it is old. */
  readonly unknown: { readonly part: Part; readonly why: string };
  /** A look is over: how long it took, and when the next one begins. */
  readonly looked: { readonly at: string; readonly tookMs: number; readonly nextMs: number };
  /** The agent lives; every few seconds. */
  readonly beat: { readonly at: string };
  /** Whoever looks is not running: why, and that it is started again. */
  readonly stalled: { readonly why: string };
  /** Another page came, and this one's place was the oldest. */
  readonly replaced: Readonly<Record<string, never>>;
}

export type EventName = keyof PageEvents;

/** An event as the wire has it (HTML standard, server-sent events). */
export function eventText<N extends EventName>(name: N, data: PageEvents[N]): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/**
 * Comments of the stream (HTML standard, server-sent events) between which whoever looks says once more all there is: it is
 * for pages that have just come alone.
 */
export const againBegins = ': again\n\n';
export const againEnds = ': so far\n\n';

/** One thing that happens to the packet that is traced: in which namespace, of which kind, and what. */
export type TraceStep = readonly [where: string, label: string, text: string];

export interface TraceEnding {
  readonly tone: 'good' | 'bad';
  readonly text: string;
  readonly advice: string | undefined;
  readonly conditions: readonly string[];
  readonly steps: readonly TraceStep[];
}

/** What the page's form is answered. */
export interface TraceView {
  readonly title: string;
  readonly verdict: 'delivered' | 'dies' | 'unknown';
  readonly summary: string;
  readonly notes: readonly string[];
  /** What all ways begin with. */
  readonly common: readonly TraceStep[];
  readonly ways: readonly (TraceEnding & {
    readonly share: string;
    readonly back: readonly TraceEnding[];
  })[];
  /** Ways, and steps, that are not shown. */
  readonly moreWays: number;
  readonly cut: boolean;
}

export type TraceReply = { readonly trace: TraceView } | { readonly error: string };
