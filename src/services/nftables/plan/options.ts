import type { PodSource } from '../../plan/pod-source.ts';

/** What rules depend on besides Services. */
export interface RenderOptions {
  readonly v6: boolean;
  /** How packets from pods of this cluster are recognised; undefined when there is no way to tell. */
  readonly fromPod: PodSource | undefined;
  readonly masqueradeAll: boolean;
  /** Addresses node ports answer on; undefined for all local addresses but loopback. */
  readonly nodePortAddresses: readonly string[] | undefined;
  /** This node's own addresses, for source ranges that include it. */
  readonly nodeAddresses: readonly string[];
}
