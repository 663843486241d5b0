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

/** Whether every packet is a pod's: nft refuses to say that of devices. */
export function isEverything(fromPod: PodSource): boolean {
  return 'network' in fromPod ? fromPod.network.endsWith('/0') : fromPod.device === '+';
}
