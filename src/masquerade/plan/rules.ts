import { type Family, ipv4, type Prefix, parsePrefix } from '../../model/address.ts';

/** Matches an address by network; `not` inverts. */
export interface NetworkMatch {
  readonly network: Prefix;
  readonly not?: boolean;
}

/** One rule, in words that iptables and nftables share. */
export interface TrafficRule {
  readonly source?: NetworkMatch;
  readonly destination?: NetworkMatch;
  /** Packet mark, value and mask equal. */
  readonly mark?: number;
  readonly verdict: 'return' | 'accept' | 'masquerade';
}

/** flannel's rules for one family; undefined where they are not wanted. */
export interface TrafficRules {
  readonly family: Family;
  /** Ports of masqueraded connections are chosen at random: fewer clashes on busy nodes. */
  readonly randomFully: boolean;
  readonly masquerade: readonly TrafficRule[] | undefined;
  readonly forward: readonly TrafficRule[] | undefined;
}

/** kube-proxy's mark on packets that it masquerades itself. */
export const KUBE_PROXY_MARK = 0x4000;

const multicast = { ipv4: parsePrefix('224.0.0.0/4'), ipv6: parsePrefix('ff00::/8') } as const;

/**
 * Pods' packets that leave the pod network get the node's address, and so do the node's own packets into it. Packets
 * within the pod network, packets that come from outside to our pods, and those that kube-proxy marks for its own
 * masquerade stay as they are: twice is once too often (k/k#88986).
 */
function masqueradeRules(network: Prefix, subnet: Prefix): TrafficRule[] {
  const pods = { network };
  const outside = { network, not: true };
  const ours = { network: subnet };
  return [
    { mark: KUBE_PROXY_MARK, verdict: 'return' },
    { source: ours, destination: pods, verdict: 'return' },
    { source: pods, destination: ours, verdict: 'return' },
    { source: outside, destination: ours, verdict: 'return' },
    {
      source: pods,
      destination: { network: multicast[network.family.name], not: true },
      verdict: 'masquerade',
    },
    { source: outside, destination: pods, verdict: 'masquerade' },
  ];
}

/** Docker sets FORWARD's policy to DROP; pods' traffic must pass all the same. */
function forwardRules(network: Prefix): TrafficRule[] {
  return [
    { source: { network }, verdict: 'accept' },
    { destination: { network }, verdict: 'accept' },
  ];
}

export function trafficRules(options: {
  readonly network: Prefix;
  /** Our own subnet. */
  readonly subnet: Prefix;
  readonly masquerade: boolean;
  readonly forward: boolean;
  readonly randomFully: boolean;
}): TrafficRules {
  const { network, subnet, masquerade, forward, randomFully } = options;
  return {
    family: network.family,
    randomFully,
    masquerade: masquerade ? masqueradeRules(network, subnet) : undefined,
    forward: forward ? forwardRules(network) : undefined,
  };
}

/** One of flannel's chains and the built-in chain that leads to it. */
export interface TrafficChain {
  readonly table: 'nat' | 'filter';
  readonly parent: string;
  readonly name: string;
  readonly comment: string;
}

export const masqueradeChain: TrafficChain = {
  table: 'nat',
  parent: 'POSTROUTING',
  name: 'FLANNEL-POSTRTG',
  comment: 'flanneld masq',
};

export const forwardChain: TrafficChain = {
  table: 'filter',
  parent: 'FORWARD',
  name: 'FLANNEL-FWD',
  comment: 'flanneld forward',
};

/** The families' nftables names where EnableNFTables is on, as flannel has them. */
export function nftTable(family: Family): string {
  return family === ipv4 ? 'flannel-ipv4' : 'flannel-ipv6';
}
