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

/** A port of the node that leads to a port of the pod (the CNI convention `portMappings`). */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** The node's address it is for; undefined for all, of both families. */
  readonly hostIP?: string | undefined;
}

/** Options of the portmap plugin; what is absent is as usual. */
export interface HostPortOptions {
  /** False: what a pod, or the node itself by its loopback, sends to a host port is not masqueraded. */
  readonly snat?: false;
  /** True: whatever comes to a host port is masqueraded. */
  readonly masqAll?: true;
  /** The bit of the packet mark that says "masquerade"; default 13. */
  readonly markMasqBit?: number;
  /** What of a packet to an IPv4 host port must be so that it is one: matches of iptables, word by word. */
  readonly conditionsV4?: readonly string[];
  readonly conditionsV6?: readonly string[];
}

/** Limits seen from the pod (the CNI convention `bandwidth`): rates in bits per second, bursts in bits. */
export interface Bandwidth {
  readonly ingressRate?: number | undefined;
  readonly ingressBurst?: number | undefined;
  readonly egressRate?: number | undefined;
  readonly egressBurst?: number | undefined;
}

/**
 * What is kept of an attachment from its ADD to its DEL. Plain JSON: it is a file of the state directory and what
 * `twill pods -o json` shows.
 */
export interface PodRecord extends PodKey {
  /** Path of the pod's network namespace as the runtime gave it. */
  readonly netns: string;
  /** Which namespace it led to then; absent in records of earlier versions. */
  readonly netnsId?: string | undefined;
  readonly addresses: readonly PodAddress[];
  /** Destinations of the routes made in the pod. */
  readonly routes: readonly string[];
  /** MAC of the interface inside the pod. */
  readonly mac: string;
  readonly mtu: number;
  readonly hostVeth: string;
  readonly bridge: string;
  readonly hairpin: boolean;
  readonly portMappings: readonly PortMapping[];
  readonly bandwidth: Bandwidth | undefined;
  /** The device that shapes what the pod sends, where another plugin made it. */
  readonly ifb?: string | undefined;
  /** True when it was found standing: another plugin made it, or its record was lost. */
  readonly adopted?: boolean | undefined;
  /** True while not all rules could be read that may be host ports of one that was found standing. */
  readonly hostPortsUnread?: true | undefined;
  /** False: the bridge need not have the gateway address for this pod. */
  readonly gateway?: false | undefined;
  /** The bridge is in promiscuous mode for this pod. */
  readonly promiscuous?: true | undefined;
  /** The bridge keeps this port from other isolated ones. */
  readonly isolated?: true | undefined;
  /** Frames with another source than `mac` are dropped. */
  readonly spoofCheck?: true | undefined;
  /** False: the interface in the pod was left down. */
  readonly up?: false | undefined;
  /** Whether its configuration wants its traffic to the outside masqueraded; undefined leaves it to the agent. */
  readonly ipMasq?: boolean | undefined;
  readonly hostPortOptions?: HostPortOptions | undefined;
  /** What the runtime said in CNI_ARGS, for people: `namespace/name` of the Kubernetes pod. */
  readonly pod: string | undefined;
  /** Of two attachments the one with the higher number is the newer. A clock says nothing of that: it can be set back. */
  readonly order: number;
  /** ISO 8601, for people. */
  readonly createdAt: string;
}

/** An address without its prefix length, which it need not have. */
export const bareAddress = (text: string): string => text.split('/', 1)[0]!;

/** The addresses of a pod, without prefix lengths. */
export function addressesOf({ addresses }: Pick<PodRecord, 'addresses'>): string[] {
  return addresses.map(({ address }) => bareAddress(address));
}
