/** What identifies an attachment: one interface of one container in one network (CNI specification, section 2). */
export interface PodKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

export interface PodAddress {
  /** With the subnet's prefix length, e.g. 10.244.7.5/24. */
  readonly address: string;
  readonly gateway: string;
}

/**
 * What is kept of an attachment from its ADD to its DEL. Plain JSON: it is a file of the state directory and what
 * `twill pods -o json` shows.
 */
export interface PodRecord extends PodKey {
  /** Path of the pod's network namespace as the runtime gave it. */
  readonly netns: string;
  readonly addresses: readonly PodAddress[];
  /** MAC of the interface inside the pod. */
  readonly mac: string;
  readonly hostVeth: string;
  /** ISO 8601. */
  readonly createdAt: string;
}
