import { type TrafficRules, trafficRules } from '../../src/masquerade/plan/rules.ts';
import { parsePrefix } from '../../src/model/address.ts';

/** Rules with everything there is, for each family. */
export const exampleTraffic: readonly TrafficRules[] = [
  trafficRules({
    network: parsePrefix('10.244.0.0/16'),
    subnet: parsePrefix('10.244.7.0/24'),
    masquerade: true,
    forward: true,
    randomFully: true,
    guard: { bridges: ['cni0', 'other.br'], vxlan: { port: 8472, device: 'flannel.1' } },
  }),
  trafficRules({
    network: parsePrefix('fd00:244::/48'),
    subnet: parsePrefix('fd00:244:0:7::/64'),
    masquerade: true,
    forward: true,
    randomFully: true,
    guard: { bridges: ['cni0', 'other.br'], vxlan: { port: 8472, device: 'flannel-v6.1' } },
  }),
];
