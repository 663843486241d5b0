import { type Address, type Family, ipv4, parseAddress, parseCidr } from '../../model/address.ts';
import type { Flow } from '../../model/flow.ts';

import type { PodRecord, PortMapping } from './pod.ts';

/** Tracked flows to one host port that must be forgotten: conntrack would send them the old way for as long as they go on. */
export interface StaleFlows {
  readonly family: Family;
  readonly protocol: 'UDP' | 'SCTP';
  readonly port: number;
  readonly isStale: (flow: Flow) => boolean;
}

/** Whether packets to this address of the node come to the mapping's rule. */
function leadsTo(mapping: PortMapping, family: Family, destination: string, isOwn: IsOwn): boolean {
  const { hostIP } = mapping;
  const only = hostIP === undefined ? undefined : parseAddress(hostIP);
  if (only !== undefined && only.family !== family) return false;
  if (only !== undefined && only.value !== 0n) return destination === only.text;
  return isOwn(destination) || (family === ipv4 && destination.startsWith('127.'));
}

type IsOwn = (address: string) => boolean;

function staleFlows(mapping: PortMapping, own: Address, isOwn: IsOwn, stands: boolean): StaleFlows {
  const { family } = own;
  const { hostPort: port, containerPort } = mapping;
  return {
    family,
    protocol: mapping.protocol === 'udp' ? 'UDP' : 'SCTP',
    port,
    isStale: ({ destination, backend }) => {
      const reachesPod = backend.address === own.text && backend.port === containerPort;
      return stands ? !reachesPod && leadsTo(mapping, family, destination.address, isOwn) : reachesPod;
    },
  };
}

/**
 * The flows that a pod's host ports make stale: those that began before it stood and go elsewhere, or that go to it and
 * it is gone. TCP needs none of it: its connections end with their ends.
 * @param isOwn whether an address is one of the node's
 */
export function podStaleFlows(record: PodRecord, isOwn: IsOwn, stands: boolean): StaleFlows[] {
  const addresses = record.addresses.map(({ address }) => parseCidr(address).address);
  return record.portMappings
    .filter(({ protocol }) => protocol !== 'tcp')
    .flatMap((mapping) => addresses.map((own) => staleFlows(mapping, own, isOwn, stands)));
}
