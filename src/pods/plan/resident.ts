/** What a pod's namespace shows of its interface. Addresses in CIDR notation, without link-local ones. */
export interface Inside {
  readonly netns: string;
  readonly netnsId: string;
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly string[];
  /** Destinations of routes by this interface, in CIDR notation. */
  readonly routes: readonly string[];
}

/** A limit of a pod's traffic: bits per second and bits. */
export interface Limit {
  readonly rate: number;
  readonly burst: number;
}

/** A pod's device on the node, as it is found: no record says anything of it. */
export interface Resident {
  readonly hostVeth: string;
  readonly alias: string | undefined;
  /** Empty for a device in no bridge. */
  readonly bridge: string;
  readonly hairpin: boolean;
  /** Whether the bridge keeps it from other isolated ports. */
  readonly isolated: boolean;
  /** undefined when its namespace cannot be found or entered. */
  readonly inside: Inside | undefined;
}

/** An address that host-local, the IPAM plugin of flannel's chain, has given out: a file in its data directory. */
export interface Reservation {
  readonly network: string;
  readonly address: string;
  readonly containerId: string;
  /** Older versions of host-local write none. */
  readonly ifname: string | undefined;
}
