/** What is asked of connection tracking; 0 leaves a setting as it is. */
export interface ConntrackWishes {
  readonly maxPerCore: number;
  /** Connections to track at least, unless `maxPerCore` is 0. */
  readonly min: number;
  readonly tcpEstablishedSeconds: number;
  readonly tcpCloseWaitSeconds: number;
  readonly tcpBeLiberal: boolean;
  readonly udpSeconds: number;
  readonly udpStreamSeconds: number;
}

/** More connections than these are not asked for because of many cores: each may take some 300 bytes of memory. */
const MOST_BY_CORES = 1_048_576;
/** Entries in one bucket of the hash table, when it is full (kube-proxy's measure). */
const ENTRIES_PER_BUCKET = 4;

/** One setting of the kernel. */
export interface KernelSetting {
  readonly name: string;
  readonly value: number;
  /** A higher value that stands is left. */
  readonly atLeast: boolean;
}

/** How many connections are to be tracked; 0 for no opinion. */
export function connectionLimit({ maxPerCore, min }: ConntrackWishes, cores: number): number {
  if (maxPerCore === 0) return 0;
  return Math.max(min, Math.min(maxPerCore * cores, MOST_BY_CORES));
}

/** Buckets that a hash table for so many connections should have. */
export function hashSize(limit: number): number {
  return Math.floor(limit / ENTRIES_PER_BUCKET);
}

/**
 * What to set in `/proc/sys/net/netfilter`, as kube-proxy does (pkg/proxy/conntrack/sysctls.go): the limit is never
 * lowered, timeouts are set to what is asked for.
 */
export function conntrackSettings(wishes: ConntrackWishes, cores: number): KernelSetting[] {
  const exact = (name: string, value: number): KernelSetting => ({ name, value, atLeast: false });
  return [
    { name: 'nf_conntrack_max', value: connectionLimit(wishes, cores), atLeast: true },
    exact('nf_conntrack_tcp_timeout_established', wishes.tcpEstablishedSeconds),
    exact('nf_conntrack_tcp_timeout_close_wait', wishes.tcpCloseWaitSeconds),
    exact('nf_conntrack_tcp_be_liberal', wishes.tcpBeLiberal ? 1 : 0),
    exact('nf_conntrack_udp_timeout', wishes.udpSeconds),
    exact('nf_conntrack_udp_timeout_stream', wishes.udpStreamSeconds),
  ].filter(({ value }) => value > 0);
}
