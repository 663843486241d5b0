import type { Protocol } from '../../model/flow.ts';

/** kube-proxy's table, in each family, in its mode nftables. */
export const NFT_TABLE = 'kube-proxy';
/** The device that has the addresses of all Services, in its mode ipvs. */
export const IPVS_DEVICE = 'kube-ipvs0';

/** A virtual service of the kernel's load balancer. */
export interface VirtualService {
  readonly protocol: Protocol;
  /** As the kernel tells it. */
  readonly address: string;
  readonly port: number;
}

/** The virtual services in `/proc/net/ip_vs` (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show): numbers are in hex. */
export function virtualServices(text: string): VirtualService[] {
  return text.split('\n').flatMap((line) => {
    const [, protocol, v6, v4, port] =
      /^(TCP|UDP|SCTP) +(?:\[([0-9A-Fa-f:]+)\]|([0-9A-F]{8})):([0-9A-F]{4}) /.exec(line) ?? [];
    if (protocol === undefined) return [];
    const bytes = v4?.match(/../g)?.map((byte) => Number.parseInt(byte, 16));
    const address = v6 ?? bytes!.join('.');
    return [{ protocol: protocol as Protocol, address, port: Number.parseInt(port!, 16) }];
  });
}

const options: Readonly<Record<Protocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' };

/** How `ipvsadm` is told to delete it. */
export function deletion({ protocol, address, port }: VirtualService): string[] {
  return ['-D', options[protocol], address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`];
}

/** kube-proxy's sets (pkg/proxy/ipvs/ipset.go) among those of a node, one a line. */
export function ipvsSets(names: string): string[] {
  const words =
    'LOOP-BACK|CLUSTER-IP|EXTERNAL-IP(-LOCAL)?|LOAD-BALANCER(-FW|-LOCAL|-SOURCE-IP|-SOURCE-CIDR)?|NODE-PORT(-LOCAL)?-(TCP|UDP|SCTP-HASH)|HEALTH-CHECK-NODE-PORT|IPVS-IPS';
  const ours = new RegExp(`^KUBE-(6-)?(${words})$`);
  return names.split('\n').filter((name) => ours.test(name));
}
