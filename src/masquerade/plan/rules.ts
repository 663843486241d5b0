import {
  type Address,
  type Family,
  ipv4,
  makePrefix,
  type Prefix,
  parsePrefix,
} from '../../model/address.ts';

/** Matches an address by network; `not` inverts. */
export interface NetworkMatch {
  readonly network: Prefix;
  readonly not?: boolean;
}

/** One rule, in words that iptables and nftables share. */
export interface TrafficRule {
  readonly source?: NetworkMatch;
  readonly destination?: NetworkMatch;
  /** The device the packet came in by; `not` inverts. */
  readonly from?: { readonly device: string; readonly not?: boolean };
  readonly udpPort?: number;
  /**
   * `redirected`: its destination was changed on the way (DNAT). `unasked`: it was not, and the packet neither belongs to
   * a conversation that is known nor has to do with one.
   */
  readonly tracked?: 'redirected' | 'unasked';
  /** Packet mark, value and mask equal. */
  readonly mark?: number;
  readonly verdict: 'return' | 'accept' | 'masquerade' | 'drop';
}

/** flannel's rules for one family; undefined where they are not wanted. */
export interface TrafficRules {
  readonly family: Family;
  /** Ports of masqueraded connections are chosen at random: fewer clashes on busy nodes. */
  readonly randomFully: boolean;
  readonly masquerade: readonly TrafficRule[] | undefined;
  readonly forward: readonly TrafficRule[] | undefined;
  /** What must not reach the node itself. */
  readonly guardInput: readonly TrafficRule[] | undefined;
  /** What must not pass through the node. */
  readonly guardForward: readonly TrafficRule[] | undefined;
}

/** What {@link trafficRules} keeps pods from. */
export interface Guard {
  /** Devices that the packets of this node's pods come in by. */
  readonly bridges: readonly string[];
  /** Where packets between nodes are carried in UDP: the port, and the device of this family. */
  readonly vxlan: { readonly port: number; readonly device: string } | undefined;
}

/** kube-proxy's mark on packets that it masquerades itself. */
const KUBE_PROXY_MARK = 0x4000;

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

/**
 * What the bridge plugin does where flannel itself does not masquerade, for pods whose configurations want it: what they
 * send out of the pod network gets the node's address.
 */
function podMasqueradeRules(network: Prefix, subnet: Prefix, except: readonly Address[]): TrafficRule[] {
  const ours = { network: subnet };
  return [
    { mark: KUBE_PROXY_MARK, verdict: 'return' },
    { source: ours, destination: { network }, verdict: 'return' },
    ...except.map(
      (address): TrafficRule => ({
        source: { network: makePrefix(address, address.family.bits) },
        verdict: 'return',
      }),
    ),
    {
      source: ours,
      destination: { network: multicast[network.family.name], not: true },
      verdict: 'masquerade',
    },
  ];
}

/** Docker sets FORWARD's policy to DROP; pods' traffic must pass all the same. */
function forwardRules(network: Prefix): TrafficRule[] {
  return [
    { source: { network }, verdict: 'accept' },
    { destination: { network }, verdict: 'accept' },
  ];
}

const loopback = { network: parsePrefix('127.0.0.0/8') };

/**
 * Nodes take a packet to their VXLAN port for one of another node, whoever sent it: with it a pod would send to every pod
 * under any address, past all policies. Pods are known by the device, since they can write any source, and by their
 * addresses where they are on another one. What other nodes send is never redirected, so neither is a way round by a
 * Service or a host port. Pods may carry packets in UDP among themselves.
 */
function vxlanGuard(network: Prefix, { bridges, vxlan }: Guard, place: 'input' | 'forward'): TrafficRule[] {
  if (vxlan === undefined) return [];
  const port = { udpPort: vxlan.port, verdict: 'drop' } as const;
  const elsewhere = place === 'forward' ? { destination: { network, not: true } } : {};
  // To the node itself comes what was carried here from other nodes' pods, too.
  const devices = place === 'input' ? [...bridges, vxlan.device] : bridges;
  return [
    ...devices.map((device) => ({ from: { device }, ...elsewhere, ...port })),
    { source: { network }, ...elsewhere, ...port },
    { tracked: 'redirected', ...elsewhere, ...port },
  ];
}

/**
 * Where `route_localnet` is open, for host ports and node ports on 127.0.0.1, the kernel lets anybody on the link send to
 * services that listen on loopback, and under a loopback source. (There is no such setting for IPv6.)
 */
function loopbackGuard({ family }: Prefix, place: 'input' | 'forward'): TrafficRule[] {
  if (family !== ipv4) return [];
  const from = { device: 'lo', not: true };
  const pretended: TrafficRule = { source: loopback, from, verdict: 'drop' };
  if (place === 'forward') return [pretended];
  return [pretended, { destination: loopback, from, tracked: 'unasked', verdict: 'drop' }];
}

export function trafficRules(options: {
  readonly network: Prefix;
  /** Our own subnet. */
  readonly subnet: Prefix;
  /** Of the whole pod network, of this node's pods alone but for some addresses, or not at all. */
  readonly masquerade: boolean | { readonly except: readonly Address[] };
  readonly forward: boolean;
  readonly randomFully: boolean;
  readonly guard: Guard;
}): TrafficRules {
  const { network, subnet, masquerade, forward, randomFully, guard } = options;
  const ofPods =
    typeof masquerade === 'object' ? podMasqueradeRules(network, subnet, masquerade.except) : undefined;
  const guardRules = (place: 'input' | 'forward'): TrafficRule[] => [
    ...vxlanGuard(network, guard, place),
    ...loopbackGuard(network, place),
  ];
  return {
    family: network.family,
    randomFully,
    masquerade: masquerade === true ? masqueradeRules(network, subnet) : ofPods,
    forward: forward ? forwardRules(network) : undefined,
    guardInput: guardRules('input'),
    guardForward: guardRules('forward'),
  };
}

/** A chain of ours, with the built-in chain that leads to it, and its counterpart in nftables. */
export interface TrafficChain {
  readonly table: 'nat' | 'filter' | 'mangle';
  readonly parent: string;
  readonly name: string;
  readonly comment: string;
  /**
   * Where the jump stands: at the end, but before what refuses everything, or at the front, before what accepts anything.
   */
  readonly place: 'end' | 'front';
  readonly nft: { readonly name: string; readonly hook: string };
  readonly rules: (all: TrafficRules) => readonly TrafficRule[] | undefined;
}

export const masqueradeChain: TrafficChain = {
  table: 'nat',
  parent: 'POSTROUTING',
  name: 'FLANNEL-POSTRTG',
  comment: 'flanneld masq',
  place: 'end',
  nft: { name: 'postrtg', hook: 'nat hook postrouting priority srcnat' },
  rules: ({ masquerade }) => masquerade,
};

export const forwardChain: TrafficChain = {
  table: 'filter',
  parent: 'FORWARD',
  name: 'FLANNEL-FWD',
  comment: 'flanneld forward',
  place: 'end',
  nft: { name: 'forward', hook: 'filter hook forward priority filter' },
  rules: ({ forward }) => forward,
};

/** Table mangle comes after a destination was changed, and before table filter, where others accept packets. */
const guardInputChain: TrafficChain = {
  table: 'mangle',
  parent: 'INPUT',
  name: 'TWILL-GUARD-IN',
  comment: 'twill guard',
  place: 'front',
  nft: { name: 'guard-input', hook: 'filter hook input priority mangle' },
  rules: ({ guardInput }) => guardInput,
};

const guardForwardChain: TrafficChain = {
  table: 'mangle',
  parent: 'FORWARD',
  name: 'TWILL-GUARD-FWD',
  comment: 'twill guard',
  place: 'front',
  nft: { name: 'guard-forward', hook: 'filter hook forward priority mangle' },
  rules: ({ guardForward }) => guardForward,
};

/** The guards first: they stand before anything that needs them is opened. */
export const trafficChains: readonly TrafficChain[] = [
  guardInputChain,
  guardForwardChain,
  masqueradeChain,
  forwardChain,
];

/** No rules at all: what stands is taken away. */
export function noRules(rules: TrafficRules): TrafficRules {
  const none = undefined;
  return { ...rules, masquerade: none, forward: none, guardInput: none, guardForward: none };
}

/** The families' nftables names where EnableNFTables is on, as flannel has them. */
export function nftTable(family: Family): string {
  return family === ipv4 ? 'flannel-ipv4' : 'flannel-ipv6';
}
