import { type Address, type Family, ipv4, type Prefix, parseCidr, prefixHost } from '../../model/address.ts';
import type { PodNetwork } from '../../model/pod-network.ts';

const infix = (family: Family): string => (family === ipv4 ? '' : 'IPV6_');

/** The subnet's first host address: the bridge's, the pods' gateway. */
export function gatewayOf(subnet: Prefix): Address {
  return prefixHost(subnet, 1);
}

/** flannel's subnet.env: the CNI plugin flannel reads it, and so do we after a restart. */
export function renderSubnetFile({ families, mtu }: PodNetwork, masquerade: boolean): string {
  const lines = families.flatMap(({ family, network, subnet, gateway }) => [
    `FLANNEL_${infix(family)}NETWORK=${network.text}`,
    `FLANNEL_${infix(family)}SUBNET=${gateway.text}/${subnet.length}`,
  ]);
  lines.push(`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${masquerade}`);
  return `${lines.join('\n')}\n`;
}

/**
 * The subnets, or the pod networks, that a subnet file of an earlier run names; lines that cannot be read are passed over.
 */
export function previousPrefixes(
  text: string,
  families: readonly Family[],
  what: 'SUBNET' | 'NETWORK',
): Prefix[] {
  return families.flatMap((family) => {
    const [, value] = new RegExp(`^FLANNEL_${infix(family)}${what}=(.+)$`, 'm').exec(text) ?? [];
    if (value === undefined) return [];
    try {
      const { prefix } = parseCidr(value.trim());
      return prefix.family === family ? [prefix] : [];
    } catch {
      return [];
    }
  });
}
