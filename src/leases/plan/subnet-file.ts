import { type Address, type Family, ipv4, type Prefix, parseCidr, prefixHost } from '../../model/address.ts';

/** What the subnet file tells: the CNI plugin flannel reads it, and so do we after a restart. */
export interface SubnetFile {
  readonly families: readonly {
    readonly family: Family;
    readonly network: Prefix;
    readonly subnet: Prefix;
  }[];
  /** MTU for pods in bytes. */
  readonly mtu: number;
  readonly masquerade: boolean;
}

const infix = (family: Family): string => (family === ipv4 ? '' : 'IPV6_');

/** The subnet's first host address: the bridge's, the pods' gateway. */
export function gatewayOf(subnet: Prefix): Address {
  return prefixHost(subnet, 1);
}

/** flannel's subnet.env. */
export function renderSubnetFile(file: SubnetFile): string {
  const lines = file.families.flatMap(({ family, network, subnet }) => [
    `FLANNEL_${infix(family)}NETWORK=${network.text}`,
    `FLANNEL_${infix(family)}SUBNET=${gatewayOf(subnet).text}/${subnet.length}`,
  ]);
  lines.push(`FLANNEL_MTU=${file.mtu}`, `FLANNEL_IPMASQ=${file.masquerade}`);
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
