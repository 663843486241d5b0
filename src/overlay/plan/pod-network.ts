import { type Lease, leaseFamily } from '../../leases/plan/lease.ts';
import { inNetwork } from '../../leases/plan/network-change.ts';
import type { NetworkConfig } from '../../leases/plan/network-config.ts';
import { gatewayOf } from '../../leases/plan/subnet-file.ts';
import type { PodNetwork, PodNetworkFamily } from '../../model/pod-network.ts';
import { podMtu, type Underlay } from './device.ts';

/** False until our lease follows a changed configuration. */
export function follows(own: Lease, config: NetworkConfig): boolean {
  return config.families.every((limits) => {
    const subnet = leaseFamily(own, limits.family)?.subnet;
    return subnet !== undefined && inNetwork(limits, subnet);
  });
}

/** This node's share of the pod network; of a family that our lease does not have yet nothing. */
export function podFamilies(own: Lease, config: NetworkConfig): PodNetworkFamily[] {
  return config.families.flatMap(({ family, network }) => {
    const subnet = leaseFamily(own, family)?.subnet;
    return subnet === undefined ? [] : [{ family, network, subnet, gateway: gatewayOf(subnet) }];
  });
}

/** What pods get by our lease. */
export function podNetworkOf(own: Lease, config: NetworkConfig, underlay: Underlay): PodNetwork {
  const families = config.families.map(({ family }) => family);
  return { mtu: podMtu(families, config.backend, underlay), families: podFamilies(own, config) };
}
