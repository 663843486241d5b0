import { type Address, ipv4, isLinkLocal, parseCidr, prefixContains } from '../../model/address.ts';
import type { PodNetwork } from '../../model/pod-network.ts';
import type { BridgeAddress } from './bridge.ts';
import type { PodRecord } from './pod.ts';

export interface StrayAddresses {
  /** Of nobody's use: to be taken away. */
  readonly remove: readonly BridgeAddress[];
  /** Why no pod can be added while they stand; undefined when nothing is in the way. */
  readonly refusal: string | undefined;
}

/** What a machine gives itself: link-local, or of 169.254.0.0/16. */
function isAutomatic(address: Address): boolean {
  return isLinkLocal(address) || (address.family === ipv4 && address.value >> 16n === 0xa9fen);
}

/** Pods whose gateway it is, or that are in its network. */
function usersOf(
  { address, length }: BridgeAddress,
  network: PodNetwork,
  records: readonly PodRecord[],
): string[] {
  const { prefix } = parseCidr(`${address.text}/${length}`);
  const isNew = (pod: Address): boolean => network.families.some(({ subnet }) => prefixContains(subnet, pod));
  const uses = (entry: { readonly address: string; readonly gateway: string }): boolean => {
    if (entry.gateway === address.text) return true;
    const pod = parseCidr(entry.address).address;
    return pod.family === address.family && prefixContains(prefix, pod) && !isNew(pod);
  };
  return records
    .filter(({ addresses }) => addresses.some(uses))
    .map(({ pod, containerId }) => pod ?? containerId);
}

/**
 * What the pods' bridge has beside its gateway addresses: those of an earlier subnet, of another plugin, or with another
 * prefix length. With one of them the node has the wrong networks on its bridge, and pods answer to the wrong address.
 * @param present the bridge's addresses
 * @param records the pods on it
 */
export function strayAddresses(
  present: readonly BridgeAddress[],
  network: PodNetwork,
  records: readonly PodRecord[],
): StrayAddresses {
  const remove: BridgeAddress[] = [];
  let refusal: string | undefined;
  for (const entry of present) {
    const { address, length } = entry;
    const own = network.families.find(({ family }) => family === address.family);
    const isGateway = own?.gateway.text === address.text;
    if (isAutomatic(address) || (isGateway && own?.subnet.length === length)) continue;
    const users = isGateway ? [] : usersOf(entry, network, records);
    if (users.length === 0) remove.push(entry);
    // Pods keep a family that the network has no more.
    else if (own !== undefined)
      refusal = `${address.text}/${length} is the gateway of pods of another subnet (${users.slice(0, 5).join(', ')}): pods of ${own.subnet.text} can be added when those are deleted`;
  }
  return { remove, refusal };
}
