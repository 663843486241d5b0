import type { Written } from '../kernel/rules-stamp.ts';
import type { Family } from '../model/address.ts';
import type { MissingCounts } from './plan/missing-local.ts';
import type { ProxyMode } from './plan/mode.ts';
import type { NodeView } from './plan/table.ts';
import type { ServiceState } from './plan/tracker.ts';

/** What one sync wrote. */
export interface SyncResult extends Written {
  /** The kernel's rules were read and compared, not only what changed written. */
  readonly full: boolean;
  /** 0 where there was nothing to write. */
  readonly bytes: number;
  /** By table of iptables: how many rules were written. */
  readonly rules?: Readonly<Record<string, number>>;
}

/** Makes the kernel's rules of one family equal to the table of Services, in one of the proxy's modes. */
export interface FamilyRules {
  readonly mode: ProxyMode;
  readonly family: Family;
  /** Services that cannot be served, with the reason: without rules until they change, or until all is compared. */
  readonly refusals: ReadonlyMap<string, string>;
  /** What should stand, counted anew at each call, by table or set. */
  readonly ruleCounts: Readonly<Record<string, number>>;
  /** Service ports with a Local policy that have endpoints, but none on this node, by the policy's kind. */
  readonly withoutLocalEndpoints: MissingCounts;
  /** What cannot be read, and what to do about it. */
  readonly unreadable: readonly string[];
  /** True when some Service has a node port with an endpoint behind it. */
  readonly hasNodePorts: boolean;
  /** True for the cluster address of a Service that has endpoints. */
  isServed(address: string): boolean;
  /** Forget what is known of the kernel: the next sync reads it. */
  invalidate(): void;
  setNode(node: NodeView): void;
  /**
   * @param states the Services to look at again
   * @param full read the kernel's rules first; done anyway when they are not known
   * @throws TwillError when the kernel could not be changed; the next sync is then full
   */
  sync(states: readonly (readonly [key: string, state: ServiceState])[], full: boolean): Promise<SyncResult>;
}
