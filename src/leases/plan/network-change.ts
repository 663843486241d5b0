import { type Prefix, prefixContains } from '../../model/address.ts';
import type { Lease } from './lease.ts';
import type { FamilyNetwork, NetworkConfig } from './network-config.ts';

/** True when a node may hold this subnet: of the right size, and between SubnetMin and SubnetMax. */
export function fitsLimits(
  { family, subnetLength, subnetMin, subnetMax }: FamilyNetwork,
  subnet: Prefix,
): boolean {
  return (
    subnet.family === family &&
    subnet.length === subnetLength &&
    subnet.address.value >= subnetMin.value &&
    subnet.address.value <= subnetMax.value
  );
}

/** True when all of the subnet is in the network. */
export function inside(network: Prefix, subnet: Prefix): boolean {
  return subnet.length >= network.length && prefixContains(network, subnet.address);
}

/** True when the subnet is part of the family's pod network, whoever cut it. */
export function inNetwork({ network }: FamilyNetwork, subnet: Prefix): boolean {
  return inside(network, subnet);
}

/** True when a lease keeps each of its subnets under the configuration. Families that come new take none away. */
export function keepsSubnets(
  config: NetworkConfig,
  lease: Lease,
  fits: (limits: FamilyNetwork, subnet: Prefix) => boolean,
): boolean {
  return lease.families.every(({ subnet }) => config.families.some((limits) => fits(limits, subnet)));
}

const parameterNames: Readonly<Record<string, string>> = {
  vni: 'VNI',
  port: 'Port',
  mtu: 'MTU',
  directRouting: 'DirectRouting',
  learning: 'Learning',
  gbp: 'GBP',
};

function settings({ families, nftables, backend }: NetworkConfig): Map<string, string> {
  const { type, ...parameters } = backend;
  const result = new Map<string, string>([
    ['EnableNFTables', String(nftables)],
    ['Backend.Type', type],
  ]);
  for (const { family, network, subnetLength, subnetMin, subnetMax } of families) {
    const limits = `${network.text}, /${subnetLength} from ${subnetMin.text} to ${subnetMax.text}`;
    result.set(`${family.kubeName} network`, limits);
  }
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined) result.set(`Backend.${parameterNames[name] ?? name}`, String(value));
  return result;
}

/** What differs between two configurations, for people; empty when they mean the same. */
export function networkChanges(before: NetworkConfig, after: NetworkConfig): string[] {
  const old = settings(before);
  const current = settings(after);
  const changes: string[] = [];
  for (const name of new Set([...old.keys(), ...current.keys()])) {
    const [was, is] = [old.get(name) ?? 'unset', current.get(name) ?? 'unset'];
    if (was !== is) changes.push(`${name}: ${was} -> ${is}`);
  }
  return changes;
}
