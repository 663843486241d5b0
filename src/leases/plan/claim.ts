import { type Prefix, prefixesOverlap } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import {
  formatLeaseValue,
  type Lease,
  leaseFamily,
  leaseKeyName,
  noOrder,
  parseLease,
  sameLease,
} from './lease.ts';
import { inNetwork } from './network-change.ts';
import type { Backend, NetworkConfig } from './network-config.ts';
import { type AnnotationNames, overwrittenIp, type RawNode } from './node-annotations.ts';
import type { NodeIdentity } from './subnet-choice.ts';

/** What this node wants to publish about itself. */
export interface Claim {
  readonly identity: NodeIdentity;
  readonly config: NetworkConfig;
}

/** Names the backend and VNI that a lease of ours carries. */
function claimBackend(backend: Backend): { backend: string; vni: number | undefined } {
  return { backend: backend.type, vni: backend.type === 'vxlan' ? backend.vni : undefined };
}

/** True when the lease is of this backend and VNI: another may be followed once it is. */
export function speaks(backend: Backend, lease: Lease): boolean {
  const claim = claimBackend(backend);
  return lease.backend === claim.backend && (lease.vni ?? claim.vni) === claim.vni;
}

/** The lease that publishes the claim with these subnets. */
export function claimedLease({ identity, config }: Claim, subnets: readonly Prefix[]): Lease {
  const { publicIps, vtepMacs } = identity;
  return {
    name: leaseKeyName(subnets),
    ...claimBackend(config.backend),
    families: config.families.flatMap(({ family }) => {
      const subnet = subnets.find((candidate) => candidate.family === family);
      const publicIp = publicIps.find((candidate) => candidate.family === family);
      if (subnet === undefined || publicIp === undefined) return [];
      return [{ family, subnet, publicIp, vtepMac: vtepMacs.get(family.name) }];
    }),
    order: noOrder,
  };
}

/** The parts of our own Kubernetes node that its lease follows from. */
export interface ClaimedNode {
  readonly name: string;
  readonly raw: RawNode;
  /** Its podCIDRs. */
  readonly subnets: readonly Prefix[];
}

/**
 * The lease that publishes the claim with the subnets that Kubernetes gave the node.
 * @throws TwillError `unavailable` while a podCIDR is missing, `invalid` when it is not in the pod network
 */
export function claimedNodeLease(
  { identity, config }: Claim,
  node: ClaimedNode,
  names: AnnotationNames,
): Lease {
  const families = config.families.map((limits) => {
    const { family, network } = limits;
    const subnet = node.subnets.find((candidate) => candidate.family === family);
    const publicIp =
      overwrittenIp(node.raw, names, family) ??
      identity.publicIps.find((candidate) => candidate.family === family);
    if (subnet === undefined)
      throw new TwillError(
        'unavailable',
        `node '${node.name}' has no ${family.kubeName} podCIDR yet: the controller manager gives it one where it is started with --allocate-node-cidrs and a --cluster-cidr of that family`,
      );
    if (!inNetwork(limits, subnet))
      throw new TwillError(
        'invalid',
        `podCIDR ${subnet.text} of node '${node.name}' is not in ${network.text}: make Network of the network configuration the controller manager's --cluster-cidr`,
      );
    if (publicIp === undefined) throw new TwillError('unavailable', `no ${family.kubeName} public IP`);
    return { family, subnet, publicIp, vtepMac: identity.vtepMacs.get(family.name) };
  });
  return { name: node.name, ...claimBackend(config.backend), families, order: noOrder };
}

/** Their subnets have addresses in common. */
export function overlaps(a: Lease, b: Lease): boolean {
  return a.families.some(({ subnet }) => b.families.some((other) => prefixesOverlap(subnet, other.subnet)));
}

/** Their VXLAN devices are said to have one MAC address. */
export function haveOneMac(a: Lease, b: Lease): boolean {
  return a.families.some(
    ({ family, vtepMac }) => vtepMac !== undefined && vtepMac === leaseFamily(b, family)?.vtepMac,
  );
}

/** A key's last part and its value. */
export interface LeaseText {
  readonly name: string;
  readonly value: string;
}

/** True when the text says what the lease says, in whatever words. */
export function saysLease({ name, value }: LeaseText, lease: Lease): boolean {
  if (value === formatLeaseValue(lease)) return true;
  try {
    return sameLease(parseLease(name, value), lease);
  } catch {
    return false;
  }
}

/** The text is readable and carries one of the lease's public IPs: it is ours, or a node's that was given the same. */
export function isTwins({ name, value }: LeaseText, lease: Lease): boolean {
  try {
    const { families } = parseLease(name, value);
    return families.some(
      ({ family, publicIp }) => leaseFamily(lease, family)?.publicIp.text === publicIp.text,
    );
  } catch {
    return false;
  }
}

/** The text is readable and carries none of the lease's public IPs: it is somebody else's. */
export function isAnothers({ name, value }: LeaseText, lease: Lease): boolean {
  try {
    const { families } = parseLease(name, value);
    return families.every(
      ({ family, publicIp }) => leaseFamily(lease, family)?.publicIp.text !== publicIp.text,
    );
  } catch {
    return false;
  }
}
