import type { Lease } from '../../leases/plan/lease.ts';
import type { NetworkConfig } from '../../leases/plan/network-config.ts';
import type { TrafficRules } from '../../masquerade/plan/rules.ts';
import type { MeshPartner, MeshState } from '../../mesh/plan/state.ts';
import type { Family } from '../../model/address.ts';
import type { Check } from '../../model/health.ts';
import type { RulesTool } from '../../model/rules-tool.ts';
import type { Underlay, VxlanPlan } from '../../overlay/plan/device.ts';
import type { Ground } from '../../overlay/plan/ground.ts';
import type { FamilyPath, SkippedLease } from '../../overlay/plan/peer.ts';
import type { RenderOptions } from '../../services/iptables/plan/options.ts';
import type { RenderOptions as NftRenderOptions } from '../../services/nftables/plan/options.ts';

/** Raised when something is taken out of the states, or means something else: other versions are not understood. */
export const STATE_VERSION = 1;

/** Which process said it. */
export interface ProcessMark {
  readonly pid: number;
  /** When it began, in clock ticks since the boot: a number that is used again does not pass for it. */
  readonly startTicks: string;
  /** The namespace that the number is of. */
  readonly pidNamespace: string;
  /** Version of the program. */
  readonly version: string;
}

/** How one loop does; times are ISO 8601. */
export interface LoopState {
  readonly name: string;
  readonly runs: number;
  readonly failures: number;
  readonly lastSuccess: string | undefined;
  readonly lastError: string | undefined;
  /** Seconds until it runs again by itself; undefined while it runs, or waits for a reason. */
  readonly nextRunSeconds: number | undefined;
  readonly stuckSeconds: number;
}

interface State {
  readonly version: typeof STATE_VERSION;
  /** ISO 8601. */
  readonly at: string;
  readonly process: ProcessMark;
  readonly node: string;
  readonly loops: readonly LoopState[];
}

/** A family's path, with the answers that its function gives. */
export interface PathState extends Omit<FamilyPath, 'onLink'> {
  readonly onLink: ReadonlyMap<string, number>;
}

/** What the agent works by, and how it does: everything that desired state follows from. */
export interface AgentState extends State {
  readonly kind: 'agent';
  readonly settings: {
    readonly stateDir: string;
    readonly bridge: string;
    readonly subnetFile: string;
    readonly cniConfDir: string;
    readonly ipMasq: boolean;
    readonly vxlanPeersOnly: boolean;
  };
  readonly source: {
    readonly kind: 'etcd' | 'kubernetes';
    /** Where it is, without credentials. */
    readonly place: string;
    readonly connected: boolean;
    readonly lastError: string | undefined;
    readonly leaseError: string | undefined;
    /** When our lease ends unless it is renewed, ISO 8601; undefined for one that does not end. */
    readonly leaseExpires: string | undefined;
  };
  readonly network: NetworkConfig | undefined;
  readonly own: Lease | undefined;
  readonly underlay: Underlay | undefined;
  readonly podMtu: number | undefined;
  readonly leases: readonly Lease[];
  readonly skipped: readonly SkippedLease[];
  readonly paths: readonly PathState[];
  readonly ground: Ground | undefined;
  readonly devices: readonly VxlanPlan[];
  readonly rules: {
    /** What rules are made with, those of host ports, too; undefined while there is no network configuration. */
    readonly tool?: RulesTool | undefined;
    /** Why it is this one. */
    readonly why?: string | undefined;
    /** Written with nft, in tables of their own; else with iptables. */
    readonly nftables: boolean;
    readonly wanted: readonly TrafficRules[];
    /** The variant of iptables that is used, by family. */
    readonly variants: ReadonlyMap<Family['name'], string>;
    /** How nft shows tables that were written so. */
    readonly shown: ReadonlyMap<string, string>;
  };
  /** Addresses for pods: given out, and in all, by family. */
  readonly addresses: readonly {
    readonly family: Family['name'];
    readonly used: number;
    readonly size: number;
  }[];
  /** What was put right because something else had changed it, by kind. */
  readonly repairs: Readonly<Record<string, number>>;
  /** How other nodes are reached; undefined where that is not measured. */
  readonly mesh: MeshState | undefined;
  /** What was measured of each, one family of one node in each entry. */
  readonly meshPartners: readonly MeshPartner[];
  /** The lines of /readyz. */
  readonly checks: readonly Check[];
}

/** How the proxy does. */
export interface ProxyState extends State {
  readonly kind: 'proxy';
  readonly mode: string;
  /** Why it is this one, where the proxy chose it itself. */
  readonly modeWhy: string | undefined;
  readonly source: string;
  readonly ready: boolean;
  readonly healthy: boolean;
  /** What it waits for before it writes rules; undefined when there is nothing. */
  readonly waitingFor: string | undefined;
  readonly services: number;
  /** How often rules were put right because something else had changed them. */
  readonly repairs: number;
  readonly families: readonly {
    readonly family: Family['name'];
    readonly variant: string;
    /** What rules depend on besides Services. */
    readonly render: Omit<RenderOptions, 'sha256'>;
    /** Seconds since the rules were last as they should be. */
    readonly sinceWrittenSeconds: number | undefined;
    /** Services that the kernel refused, with its reason. */
    readonly refused: readonly { readonly name: string; readonly reason: string }[];
  }[];
  /** The families that are served with nftables: `families` has those of iptables. */
  readonly nftables: readonly {
    readonly family: Family['name'];
    readonly sinceWrittenSeconds: number | undefined;
    readonly refused: readonly { readonly name: string; readonly reason: string }[];
    /** What elements depend on besides Services. */
    readonly render: NftRenderOptions;
    /** How many elements should stand, by set. */
    readonly elements: Readonly<Record<string, number>>;
  }[];
  readonly warnings: readonly Check[];
  /** Where Services come from. */
  readonly settings: {
    readonly manifests: string | undefined;
    readonly kubeconfig: string | undefined;
    readonly master: string | undefined;
    readonly localhostNodePorts: boolean;
  };
  /** The zone of its node. */
  readonly zone: string | undefined;
}
