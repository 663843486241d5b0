import type { PodRecord, PortMapping } from '../../src/pods/plan/pod.ts';

function pod(containerId: string, host: number, order: number, portMappings: PortMapping[]): PodRecord {
  return {
    network: 'twill',
    containerId,
    ifname: 'eth0',
    netns: '/run/netns/x',
    addresses: [
      { address: `10.244.7.${host}/24`, gateway: '10.244.7.1' },
      { address: `fd00:244:0:7::${host}/64`, gateway: 'fd00:244:0:7::1' },
    ],
    routes: [],
    mac: '',
    mtu: 1450,
    hostVeth: '',
    bridge: 'cni0',
    hairpin: true,
    portMappings,
    bandwidth: undefined,
    pod: undefined,
    order,
    createdAt: '2026-01-01T00:00:00Z',
  };
}

/** Pods with host ports of every kind. */
export const hostPortPods: readonly PodRecord[] = [
  pod('old', 2, 1, [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]),
  pod('new', 3, 2, [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]),
  pod('kinds', 4, 3, [
    { hostPort: 53, containerPort: 5353, protocol: 'udp', hostIP: '192.0.2.1' },
    { hostPort: 3868, containerPort: 3868, protocol: 'sctp', hostIP: '0.0.0.0' },
    { hostPort: 8443, containerPort: 443, protocol: 'tcp', hostIP: '2001:db8::1' },
    { hostPort: 9443, containerPort: 443, protocol: 'tcp', hostIP: '::' },
  ]),
  pod('none', 5, 4, []),
];
