import type { Sha256 } from './names.ts';

/** Matches that not every kernel has. */
export type OptionalMatch = 'bpf' | 'nfacct';

export interface RenderOptions {
  readonly v6: boolean;
  /** Match for packets from pods of this cluster (`-s 10.244.0.0/16` or `-i cni0`); undefined when there is no way to tell. */
  readonly fromPod: string | undefined;
  readonly masqueradeAll: boolean;
  /** Node ports answer on loopback addresses too (IPv4 only; needs the sysctl route_localnet). */
  readonly localhostNodePorts: boolean;
  /** It is this proxy, or an earlier run of it, that opened route_localnet and is to set it back. */
  readonly opensLocalnet: boolean;
  /** Addresses node ports answer on; undefined for all local addresses. */
  readonly nodePortAddresses: readonly string[] | undefined;
  /** Leave packets in conntrack state INVALID alone (nf_conntrack_tcp_be_liberal is set). */
  readonly tolerateInvalid: boolean;
  /** This node's own addresses, for source ranges that include it. */
  readonly nodeAddresses: readonly string[];
  /** Those that iptables and the kernel have here. */
  readonly matches: readonly OptionalMatch[];
  readonly sha256: Sha256;
}

/** True when KUBE-SERVICES begins by marking. */
export function marksAtHead(options: RenderOptions): boolean {
  return options.masqueradeAll || options.fromPod !== undefined;
}
