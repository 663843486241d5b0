import type { RenderOptions } from './options.ts';

/** Counters of the kernel (nfnetlink_acct) that rules count packets with; names are kube-proxy's. */
export const packetCounters = {
  /** Dropped, since connection tracking took them for part of no connection. */
  invalidDropped: 'ct_state_invalid_dropped_pkts',
  /** Connections to node ports at a loopback address. */
  localhostNodePorts: 'localhost_nps_accepted_pkts',
} as const;

/** Counts what a rule matches; empty where the kernel cannot. @returns with a space behind it */
export function countedBy(counter: string, { matches }: Pick<RenderOptions, 'matches'>): string {
  return matches.includes('nfacct') ? `-m nfacct --nfacct-name ${counter} ` : '';
}

/** iptables prints two spaces where it reads one; as {@link countedBy} writes it. */
export function asWritten(rules: string): string {
  return rules.replaceAll('--nfacct-name  ', '--nfacct-name ');
}
