import { type Family, makeAddress, parseAddress, parseCidr, prefixHost } from '../../model/address.ts';
import { readAlias } from './alias.ts';
import { ifbName } from './bandwidth.ts';
import {
  bareAddress,
  type HostPortOptions,
  type PodAddress,
  type PodKey,
  type PodRecord,
  type PortMapping,
} from './pod.ts';
import type { FoundMapping, ReadMappings } from './portmap.ts';
import type { Inside, Limit, Reservation, Resident } from './resident.ts';

/** What is known of the node when the pods that others made are looked at. */
export interface Findings {
  readonly residents: readonly Resident[];
  readonly reservations: readonly Reservation[];
  readonly mappings: ReadMappings;
  /** Pods on these bridges are ours to look after, whoever made them. */
  readonly bridges: ReadonlySet<string>;
  /** The device name that an attachment of ours has. */
  readonly hostVethOf: (key: PodKey) => string;
  readonly limits: ReadonlyMap<string, Limit>;
  /** The device that the bandwidth plugin would have made. */
  readonly pluginIfbOf: (key: PodKey) => string;
}

/** A record but for what the store adds. */
export type Adopted = Omit<PodRecord, 'order' | 'createdAt'>;

/** Our own pod by its device's alias; nobody else's, since the name has to fit. */
function ownAlias({ alias, hostVeth }: Resident, { hostVethOf }: Findings): ReturnType<typeof readAlias> {
  const read = readAlias(alias ?? '');
  return read !== undefined && hostVethOf(read.key) === hostVeth ? read : undefined;
}

/** Of which container a pod is, nothing says: its namespace alone tells which calls are about it. */
const nameless = 'unknown-';

export function isNameless({ containerId, adopted }: Pick<PodRecord, 'containerId' | 'adopted'>): boolean {
  return adopted === true && containerId.startsWith(nameless);
}

function keyOf(resident: Resident, inside: Inside, findings: Findings): PodKey {
  const own = ownAlias(resident, findings)?.key;
  if (own !== undefined) return own;
  const held = new Set(inside.addresses.map(bareAddress));
  const reservation = findings.reservations.find(
    ({ address, containerId }) => held.has(address) && containerId !== '',
  );
  const { ifname } = inside;
  if (reservation === undefined)
    return { network: '', containerId: `${nameless}${resident.hostVeth}`, ifname };
  const { network, containerId } = reservation;
  return { network, containerId, ifname: reservation.ifname ?? ifname };
}

/** One for both families; what is for all addresses of one alone, where the pod has both, is not for the other's. */
function mappingsOf(held: ReadonlySet<string>, found: readonly FoundMapping[]): PortMapping[] {
  const same = new Map<string, FoundMapping[]>();
  for (const one of found.filter(({ address }) => held.has(address))) {
    const { hostIP, protocol, hostPort, containerPort } = one;
    const key = [hostIP, protocol, hostPort, containerPort].join(' ');
    same.set(key, [...(same.get(key) ?? []), one]);
  }
  const familyOf = (address: string): Family => parseAddress(address).family;
  const count = new Set([...held].map(familyOf)).size;
  return [...same.values()].map((rules): PortMapping => {
    const { address, options: _, ...mapping } = rules[0]!;
    const whole = new Set(rules.map((rule) => familyOf(rule.address))).size === count;
    return whole || mapping.hostIP !== undefined
      ? mapping
      : { ...mapping, hostIP: makeAddress(familyOf(address), 0n).text };
  });
}

/** The limits that stand, so that they can be put right like others, and the device that keeps one of them. */
function bandwidthOf(
  key: PodKey,
  hostVeth: string,
  findings: Findings,
): Pick<PodRecord, 'bandwidth' | 'ifb'> {
  const { limits } = findings;
  const ifb = [ifbName(hostVeth), findings.pluginIfbOf(key)].find(
    (name) => name !== hostVeth && limits.has(name),
  );
  const [received, sent] = [limits.get(hostVeth), ifb === undefined ? undefined : limits.get(ifb)];
  if (received === undefined && sent === undefined) return { bandwidth: undefined };
  return {
    bandwidth: {
      ...(received === undefined ? {} : { ingressRate: received.rate, ingressBurst: received.burst }),
      ...(sent === undefined ? {} : { egressRate: sent.rate, egressBurst: sent.burst }),
    },
    ...(ifb === undefined || ifb === ifbName(hostVeth) ? {} : { ifb }),
  };
}

/** Options are a pod's, in both families. */
function optionsOf(
  held: ReadonlySet<string>,
  found: readonly FoundMapping[],
): Pick<PodRecord, 'hostPortOptions'> {
  const own = found.filter(({ address }) => held.has(address)).map(({ options }) => options);
  const hostPortOptions: HostPortOptions = Object.assign({}, ...own);
  return Object.keys(hostPortOptions).length === 0 ? {} : { hostPortOptions };
}

/**
 * What rules say of the host ports of a pod that was found standing.
 * @param addresses without prefix lengths
 */
export function foundHostPorts(
  addresses: readonly string[],
  { found, isWhole }: ReadMappings,
): Pick<PodRecord, 'portMappings' | 'hostPortOptions' | 'hostPortsUnread'> {
  const held = new Set(addresses);
  const unread = isWhole ? {} : ({ hostPortsUnread: true } as const);
  return { portMappings: mappingsOf(held, found), ...optionsOf(held, found), ...unread };
}

/**
 * The bridge is the gateway; its address is the first of the subnet. An address without a subnet (/32), which a pod has
 * put on its interface itself, goes with the others of its family.
 * @param all the pod's addresses
 */
function addressOf(text: string, all: readonly string[]): PodAddress {
  const { family, address } = parseCidr(text).prefix;
  const subnet = [text, ...all]
    .map((one) => parseCidr(one).prefix)
    .find((prefix) => prefix.family === family && prefix.length < family.bits);
  return { address: text, gateway: subnet === undefined ? address.text : prefixHost(subnet, 1).text };
}

/** The records for pods that stand on our bridges, or are ours by their alias, and that no record is of. */
export function planAdoption(findings: Findings): Adopted[] {
  return findings.residents.flatMap((resident): Adopted[] => {
    const { hostVeth, bridge, hairpin, isolated, inside } = resident;
    if (inside === undefined || inside.addresses.length === 0) return [];
    const own = ownAlias(resident, findings);
    if (!findings.bridges.has(bridge) && own === undefined) return [];
    const { netns, netnsId, mac, mtu, routes, addresses } = inside;
    const key = keyOf(resident, inside, findings);
    return [
      {
        ...key,
        netns,
        netnsId,
        addresses: addresses.map((text) => addressOf(text, addresses)),
        routes,
        mac,
        mtu,
        hostVeth,
        bridge,
        hairpin,
        ...foundHostPorts(addresses.map(bareAddress), findings.mappings),
        ...bandwidthOf(key, hostVeth, findings),
        ...(isolated ? { isolated } : {}),
        ...own?.options,
        pod: undefined,
        adopted: true,
      },
    ];
  });
}

/** Addresses that pods have which are not ours to look after. */
export function strangersAddresses({
  residents,
  bridges,
}: Pick<Findings, 'residents' | 'bridges'>): string[] {
  return residents
    .filter(({ bridge }) => !bridges.has(bridge))
    .flatMap(({ inside }) => inside?.addresses.map(bareAddress) ?? []);
}
