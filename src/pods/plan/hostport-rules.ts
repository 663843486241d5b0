import { type Family, ipv4, parseAddress, parseCidr } from '../../model/address.ts';
import { conditionsFor } from './conditions.ts';
import type { PodRecord, PortMapping } from './pod.ts';

/** The portmap plugin's bit of the packet mark for what is to be masqueraded. */
export const usualMarkBit = 13;

/** What one host port of a pod asks for in one family, in words that iptables and nftables share. */
export interface HostPortRule {
  readonly containerId: string;
  readonly hostVeth: string;
  readonly protocol: PortMapping['protocol'];
  readonly hostPort: number;
  /** The one address of the node that it answers on; undefined for all. */
  readonly destination: string | undefined;
  readonly target: { readonly address: string; readonly port: number };
  /** What is masqueraded of what it sends on: from these networks, `undefined` for everybody. */
  readonly masquerade: readonly (string | undefined)[];
  /** The bit of the packet mark by which that is done. */
  readonly markBit: number;
  /** Matches of iptables, word by word, that packets must fit. */
  readonly conditions: readonly string[];
}

/** @returns false where it is an address of the other family */
function destinationOf({ hostIP }: PortMapping, family: Family): string | undefined | false {
  if (hostIP === undefined) return undefined;
  const address = parseAddress(hostIP);
  if (address.family !== family) return false;
  return address.value === 0n ? undefined : address.text;
}

function ruleOf(record: PodRecord, family: Family, mapping: PortMapping): HostPortRule[] {
  const own = record.addresses
    .map(({ address }) => parseCidr(address))
    .find(({ address }) => address.family === family);
  const destination = destinationOf(mapping, family);
  if (own === undefined || destination === false) return [];
  const { snat = true, masqAll = false, markMasqBit = usualMarkBit } = record.hostPortOptions ?? {};
  // What comes from the pod's own bridge, the pod itself included, must return through the node.
  const near = [own.prefix.text, ...(family === ipv4 ? ['127.0.0.1/32'] : [])];
  return [
    {
      containerId: record.containerId,
      hostVeth: record.hostVeth,
      protocol: mapping.protocol,
      hostPort: mapping.hostPort,
      destination,
      target: { address: own.address.text, port: mapping.containerPort },
      masquerade: snat ? (masqAll ? [undefined] : near) : [],
      markBit: markMasqBit,
      conditions: conditionsFor(family.bits, record.hostPortOptions),
    },
  ];
}

/** The host ports of one family. The newest pod comes first: where two claim a port, the older one is being replaced. */
export function hostPortsOf(records: readonly PodRecord[], family: Family): HostPortRule[] {
  return [...records]
    .sort((a, b) => b.order - a.order)
    .flatMap((record) => record.portMappings.flatMap((mapping) => ruleOf(record, family, mapping)));
}

/** What is to be said of host ports that lead nowhere, for the pod has no address of their family. */
export function hostPortsInVain(families: readonly Family[], mappings: readonly PortMapping[]): string[] {
  return mappings
    .filter((mapping) => families.every((family) => destinationOf(mapping, family) === false))
    .map(({ hostPort, protocol, hostIP }) => {
      const on = hostIP === undefined ? '' : ` on ${hostIP}`;
      const lacks =
        families.length === 0 ? 'address' : `${parseAddress(hostIP ?? '').family.kubeName} address`;
      return `host port ${hostPort} (${protocol})${on} has no effect: the pod has no ${lacks}`;
    });
}
