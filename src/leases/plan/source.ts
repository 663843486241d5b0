import type { Address, Family } from '../../model/address.ts';
import type { Claim } from './claim.ts';
import type { Lease } from './lease.ts';
import type { NetworkConfig } from './network-config.ts';

/** What changed: our own lease, those of others, or the network configuration. */
export type SourceChange = 'own' | 'peers' | 'config';

/** How a source of leases is doing, for readiness, status and metrics. */
export interface SourceStatus {
  /** True while the source is followed live. */
  readonly connected: boolean;
  readonly lastError: string | undefined;
  /** Why there is no lease. */
  readonly leaseError: string | undefined;
  /** Why the network configuration cannot be read now. */
  readonly configError: string | undefined;
  /** What the source says of this node and cannot be followed, with what to do. */
  readonly problems: readonly string[];
  /** The server that answers, and who says that it is to be asked, where there is a choice. */
  readonly from?: string;
  /** Entries that could not be read, by name, with the reason. */
  readonly malformed: ReadonlyMap<string, string>;
}

/** Where leases come from and our own goes to: etcd or Kubernetes. */
export interface LeaseSource {
  /** Starts to follow; errors are retried and logged inside. */
  start(onChange: (change: SourceChange) => void): void;
  /** Resolves with the configuration once there is a valid one. Rejects when `signal` is aborted. */
  config(signal: AbortSignal): Promise<NetworkConfig>;
  /** The newest valid configuration; `onChange('config')` says that there is another, or that it cannot be read. */
  latestConfig(): NetworkConfig | undefined;
  /** True when this node keeps its subnets under the configuration. */
  keeps(config: NetworkConfig): boolean;
  /** Says what our lease should be; the source takes, keeps and renews it, and tells by `onChange('own')`. */
  claim(claim: Claim): void;
  /** Our lease, the same object as long as it says the same; undefined before the first and while it is lost. */
  own(): Lease | undefined;
  /** All valid leases by name, ours included. Complete from the first time that `config` has resolved. */
  leases(): ReadonlyMap<string, Lease>;
  /** Seconds until our lease ends unless it is renewed; undefined where it does not end, or that is not known yet. */
  leaseSecondsLeft(): number | undefined;
  /** Addresses by which the cluster knows this node: a hint which interface to use. */
  internalIps(): readonly Address[];
  /** Addresses of the servers that the leases come from, as far as they are known. */
  servers(): readonly Address[];
  /** Public IPs that an administrator set for this node in the source: they come before those of the flags. */
  publicIps(): readonly Address[];
  /** VTEP MAC that is published for this node beyond doubt, for a node whose own memory of it is gone. */
  publishedMac(family: Family): string | undefined;
  /** True when another node's lease said before ours that it has this VTEP MAC, which ours says: it will be believed. */
  macContested(family: Family, mac: string): boolean;
  /** Pods of this node can be wired and reached now. */
  networkUp(): void;
  status(): SourceStatus;
  /** Stops following. Leaves the lease as it is. */
  stop(): Promise<void>;
}
