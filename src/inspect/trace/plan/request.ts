/** What a walk is asked. */
import type { Family } from '../../../model/address.ts';
import type { Protocol } from './packet.ts';

/** Who sends: a process in a namespace, or somebody whose packets come to this node. */
export type Sender =
  | { readonly kind: 'inside'; readonly space: string; readonly address: string | undefined }
  | { readonly kind: 'outside'; readonly address: string };

export interface TraceRequest {
  readonly family: Family;
  readonly protocol: Protocol;
  readonly from: Sender;
  readonly destination: string;
  readonly port: number | undefined;
  /** The destination is nobody's own: whoever does not translate it sends it nowhere. */
  readonly isVirtual?: boolean;
  /** Networks that pods' addresses are of: each node's own part has a route of its own. */
  readonly podNetworks?: readonly string[];
  /** Addresses of the nodes that have leases. */
  readonly nodes?: readonly string[];
}
