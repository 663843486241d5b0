import { type Lease, leaseFamily } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import { type TrafficRules, trafficRules } from '../masquerade/plan/rules.ts';
import { vxlanName } from '../overlay/plan/device.ts';
import type { AgentConfig } from './config.ts';

/** The rules for pods' traffic that follow from the network configuration and the lease; none without either. */
export function wantedTraffic(
  network: NetworkConfig | undefined,
  own: Lease | undefined,
  config: AgentConfig,
  bridges: readonly string[],
): TrafficRules[] {
  if (network === undefined || own === undefined) return [];
  const { families, backend } = network;
  const { ipMasq: masquerade, forwardRules: forward, randomFully } = config;
  return families.flatMap(({ family, network: pods }) => {
    const subnet = leaseFamily(own, family)?.subnet;
    if (subnet === undefined) return [];
    const vxlan =
      backend.type === 'vxlan' ? { port: backend.port, device: vxlanName(family, backend.vni) } : undefined;
    return [
      trafficRules({ network: pods, subnet, masquerade, forward, randomFully, guard: { bridges, vxlan } }),
    ];
  });
}
