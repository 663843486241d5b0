import type { Address, Family, Prefix } from './address.ts';

/** One family's share of what the agent tells the CNI server about this node. */
export interface PodNetworkFamily {
  readonly family: Family;
  /** The whole pod network, e.g. 10.244.0.0/16. */
  readonly network: Prefix;
  /** This node's subnet, e.g. 10.244.7.0/24. */
  readonly subnet: Prefix;
  /** The bridge's address, the first of the subnet. */
  readonly gateway: Address;
}

/** What pods of this node get; made by the overlay once it holds a lease. */
export interface PodNetwork {
  readonly families: readonly PodNetworkFamily[];
  /** MTU of the overlay in bytes, for pods' interfaces and the bridge. */
  readonly mtu: number;
}

/** Whether pods can be wired now, and if not, why. */
export type PodNetworkState =
  | { readonly ready: true; readonly network: PodNetwork }
  | { readonly ready: false; readonly reason: string };
