import type { MeshPartner, MeshState } from '../../mesh/plan/state.ts';
import type { Problem, Verdict } from './problem.ts';
import type { AgentState, LoopState } from './state.ts';

/** Versions of what works together; undefined where something is not there. */
export interface Versions {
  readonly twill: string;
  readonly agent: string | undefined;
  readonly proxy: string | undefined;
  readonly kernel: string;
  readonly node: string;
  readonly iptables: string | undefined;
  readonly nft: string | undefined;
}

/** What a process says of itself, or why it does not. */
export interface ProcessAnswer {
  readonly answers: boolean;
  /** Why it does not answer. */
  readonly why: string | undefined;
  /** When it said, or wrote down, what is shown. */
  readonly at: string | undefined;
  readonly loops: readonly LoopState[];
}

export interface MeshAnswer extends MeshState {
  /** Nodes that are not as they should be, and what is to be said of each. */
  readonly troubled: readonly (MeshPartner & { readonly sentence: string })[];
  /** Median of the nodes' round trips in milliseconds; undefined where none is known. */
  readonly medianMs: { readonly underlay: number | undefined; readonly overlay: number | undefined };
}

/** What `twill status -o json` prints. */
export interface StatusAnswer {
  readonly version: 1;
  readonly verdict: Verdict;
  /** The verdict with its first reason, in one sentence. */
  readonly summary: string;
  readonly node: string;
  readonly problems: readonly Problem[];
  readonly agent: ProcessAnswer;
  /** What the agent's rules are made with, and why. */
  readonly rules: { readonly tool: string; readonly why: string } | undefined;
  /** Undefined where no proxy has ever run. */
  readonly proxy:
    | (ProcessAnswer & {
        readonly mode: string;
        /** Why it is this one, where the proxy chose it itself. */
        readonly modeWhy: string | undefined;
        readonly source: string;
        readonly ready: boolean;
        readonly services: number;
        readonly families: readonly {
          readonly family: string;
          readonly variant: string;
          readonly sinceWrittenSeconds: number | undefined;
          readonly refused: number;
        }[];
      })
    | undefined;
  readonly lease:
    | {
        readonly name: string;
        readonly subnets: readonly string[];
        readonly expires: string | undefined;
        readonly source: string;
        readonly sourceConnected: boolean;
      }
    | undefined;
  readonly network:
    | {
        readonly backend: string;
        readonly networks: readonly string[];
        readonly interface: string;
        readonly interfaceWhy: string;
        readonly addresses: readonly string[];
        readonly mtu: number;
        readonly podMtu: number | undefined;
        readonly mtuWhy: string;
      }
    | undefined;
  readonly peers: {
    readonly count: number;
    readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  };
  /** How other nodes are reached, as the agent has measured; undefined where it does not measure. */
  readonly mesh: MeshAnswer | undefined;
  /** Addresses for pods, by family. */
  readonly addresses: AgentState['addresses'];
  /** What has been put right since the agent began, by kind. */
  readonly repairs: Readonly<Record<string, number>>;
  /** What is not as it should be now, by kind. */
  readonly drift: Readonly<Record<string, number>>;
  readonly versions: Versions;
}
