import { type Address, ipv4, isLinkLocal, type Prefix, prefixContains } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import type { PodNetwork } from '../../model/pod-network.ts';
import type { PodRecord } from './pod.ts';
import { macOf } from './wiring.ts';

/** What network configurations want of the bridge itself. */
export interface BridgeOptions {
  /** Whether the bridge has the gateway addresses: false leaves that to somebody else. */
  readonly gateway: boolean;
  readonly promiscuous: boolean;
  /** What becomes of other addresses of the bridge: true takes them away, false refuses them. */
  readonly forceAddress?: boolean | undefined;
}

export const usualBridge: BridgeOptions = { gateway: true, promiscuous: false };

/** An address on a device, as the kernel shows it. */
export interface StandingAddress {
  readonly index: number;
  readonly address: Address;
  readonly length: number;
}

export interface BridgeAddress {
  readonly address: Address;
  readonly length: number;
}

/** The bridge plugin's rule: one IPv4 address, and IPv6 addresses of networks that do not overlap. */
function isInTheWay(entry: StandingAddress, gateway: Address, subnet: Prefix): boolean {
  if (entry.address.family !== gateway.family || entry.address.text === gateway.text) return false;
  if (gateway.family === ipv4) return true;
  return (
    !isLinkLocal(entry.address) && (prefixContains(subnet, entry.address) || entry.length <= subnet.length)
  );
}

/**
 * The addresses that a bridge lacks, and those that it should not have.
 * @param present the addresses of all devices
 * @param nameOf the name of a device
 * @throws TwillError `invalid` naming the device that has a gateway address already: with the same address and route on
 *   two devices the kernel would send the pods' packets to either
 */
export function planBridgeAddresses(
  bridge: { readonly index: number; readonly name: string },
  network: PodNetwork,
  options: BridgeOptions,
  present: readonly StandingAddress[],
  nameOf: (index: number) => string,
): { readonly add: readonly BridgeAddress[]; readonly remove: readonly BridgeAddress[] } {
  const add: BridgeAddress[] = [];
  const remove: BridgeAddress[] = [];
  if (!options.gateway) return { add, remove };
  for (const { gateway, subnet } of network.families) {
    const holders = present.filter(({ address }) => address.text === gateway.text);
    const other = holders.find(({ index }) => index !== bridge.index);
    if (other !== undefined)
      throw new TwillError(
        'invalid',
        `network configuration: bridge "${bridge.name}" needs the gateway address ${gateway.text}, which ${nameOf(other.index)} has: use that bridge, or set isGateway to false`,
      );
    const others = present.filter(
      (entry) => entry.index === bridge.index && isInTheWay(entry, gateway, subnet),
    );
    if (others.length > 0 && options.forceAddress === false)
      throw new TwillError(
        'invalid',
        `network configuration: forceAddress is false, and bridge "${bridge.name}" has ${others[0]?.address.text} instead of ${gateway.text}: remove that address, or set forceAddress to true`,
      );
    if (options.forceAddress === true) remove.push(...others);
    if (holders.length === 0) add.push({ address: gateway, length: subnet.length });
  }
  return { add, remove };
}

/** What the kernel leaves a bridge that has no MAC of its own and has lost its last port, and what it takes for none. */
const noMac = '00:00:00:00:00:00';

/** The MAC of a bridge of ours. */
export function bridgeMac({ families }: Pick<PodNetwork, 'families'>): string | undefined {
  const gateways = families.map(({ gateway }) => gateway);
  const first = gateways.find(({ family }) => family === ipv4) ?? gateways[0];
  return first === undefined ? undefined : macOf(first);
}

/**
 * The MAC that a bridge keeps. A bridge without a fixed one takes its ports' lowest, and would change with every pod. One
 * that somebody else has made may be of that kind: it keeps the MAC that it has.
 * @param before the bridge as it was left before
 * @returns whether it has to be set, too
 */
export function lastingMac(
  bridge: { readonly index: number; readonly mac: string },
  made: boolean,
  before: { readonly index: number; readonly mac: string } | undefined,
  network: Pick<PodNetwork, 'families'>,
): { readonly mac: string; readonly isToSet: boolean } {
  const mac = bridge.mac === noMac ? (bridgeMac(network) ?? noMac) : bridge.mac;
  const isFixed = made || (before?.index === bridge.index && before.mac === bridge.mac);
  return { mac, isToSet: !isFixed && mac !== noMac };
}

/** What of a pod's device on the bridge is not as its ADD left it, in a few words; undefined where all is. */
export function portProblem(
  port: {
    readonly up: boolean;
    readonly hairpin: boolean | undefined;
    readonly isolated?: boolean | undefined;
  },
  { hairpin, isolated }: Pick<PodRecord, 'hairpin' | 'isolated'>,
): string | undefined {
  if (!port.up) return 'is down';
  if (port.hairpin !== hairpin)
    return hairpin
      ? 'has hairpin mode off: the pod does not reach itself through a Service'
      : 'has hairpin mode on';
  return isolated === true && port.isolated !== true ? 'is not isolated from other ports' : undefined;
}
