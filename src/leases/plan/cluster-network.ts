import { parsePrefix } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { goField } from '../../model/go-json.ts';

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function asObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined; // whoever reads it as a configuration says what is wrong
  }
}

/** Whether a network configuration leaves it to the cluster which addresses pods have. */
export function leavesNetworkOpen(text: string): boolean {
  const value = asObject(text);
  return value !== undefined && !goField(value, 'Network') && !goField(value, 'IPv6Network');
}

/**
 * The pod networks of kubeadm's ClusterConfiguration (`networking.podSubnet`): one of a family, separated by commas.
 * @throws TwillError `invalid`
 */
export function kubeadmPodNetworks(configuration: unknown): string[] {
  const networking = isObject(configuration) ? configuration.networking : undefined;
  const subnets = isObject(networking) ? networking.podSubnet : undefined;
  if (typeof subnets !== 'string' || subnets === '')
    throw new TwillError('invalid', 'it has no networking.podSubnet (kubeadm init --pod-network-cidr)');
  return subnets.split(',').map((text) => parsePrefix(text.trim()).text);
}

/** The configuration with the cluster's networks where it names none of its own. */
export function withClusterNetworks(text: string, networks: readonly string[]): string {
  const value = leavesNetworkOpen(text) ? asObject(text) : undefined;
  if (value === undefined || networks.length === 0) return text;
  // A family that is switched off stays off, whatever the cluster has.
  const of = (name: string, enable: string): string | undefined =>
    goField(value, enable) === false
      ? undefined
      : networks.find((network) => parsePrefix(network).family.name === name);
  const [v4, v6] = [of('ipv4', 'EnableIPv4'), of('ipv6', 'EnableIPv6')];
  return JSON.stringify({
    ...value,
    ...(v4 === undefined ? { EnableIPv4: false } : { Network: v4 }),
    ...(v6 === undefined ? {} : { EnableIPv6: true, IPv6Network: v6 }),
  });
}
