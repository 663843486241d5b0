import { type Address, parseAddress, prefixContains } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { PodNetwork, PodNetworkFamily } from '../model/pod-network.ts';
import { unmapped } from '../model/untrusted.ts';
import { chooseAddress, isPodAddress } from './plan/address.ts';
import { addressesOf } from './plan/pod.ts';
import type { Interval, Ranges } from './plan/ranges.ts';
import type { PodStore } from './store.ts';

/** An address that somebody wants, perhaps with a prefix length; `from` says where it was written, for errors. */
export interface RequestedAddress {
  readonly text: string;
  readonly from: string;
}

/** @throws TwillError `invalid` where two of a family are wanted: one of them would be forgotten silently */
function assertOneEach(wanted: readonly Address[], requested: readonly RequestedAddress[]): void {
  wanted.forEach((address, index) => {
    const first = wanted.find(({ family }) => family === address.family);
    if (first === address || first?.text === address.text) return;
    const from = requested[index]?.from ?? '';
    throw new TwillError(
      'invalid',
      `${from}: ${address.text} is wanted beside ${first?.text}: a pod has one of a family`,
    );
  });
}

/** Addresses that pods have of whom there is no record. */
export interface OthersAddresses {
  held(): Iterable<string>;
  /** Asked for an address that is about to be given out. */
  isReserved(address: string): boolean;
}

/**
 * Gives out pod addresses. Everything here is synchronous, so two pods can never get one address; an address is in
 * use while it is reserved here (its ADD or DEL is under way) or a record holds it.
 */
export class Ipam {
  private readonly store: PodStore;
  private readonly reserved = new Set<string>();
  private readonly others: OthersAddresses;

  constructor(store: PodStore, others: OthersAddresses = { held: () => [], isReserved: () => false }) {
    this.store = store;
    this.others = others;
  }

  /** Addresses in use, as canonical text. */
  used(): Set<string> {
    const used = new Set([...this.reserved, ...this.others.held()]);
    for (const record of this.store.list()) for (const address of addressesOf(record)) used.add(address);
    return used;
  }

  /**
   * One address of each family, reserved until {@link release}.
   * @param ranges where the addresses must be from
   * @param requested addresses that are wanted instead of the next in turn
   * @throws TwillError `exhausted` naming the subnet that is full, `invalid` or `conflict` for a requested address that is
   *   in none of the subnets or in use
   */
  reserve(
    network: PodNetwork,
    requested: readonly RequestedAddress[] = [],
    ranges: Ranges = new Map(),
  ): Address[] {
    const used = this.used();
    const wanted = requested.map((address) => this.checkRequested(network, used, ranges, address));
    assertOneEach(wanted, requested);
    const chosen = network.families.map((family) => {
      const asked = wanted.find((address) => address.family === family.family);
      if (asked !== undefined) return asked;
      const last = this.store.lastAddress(family.family.name);
      const only = ranges.get(family.family);
      const before = last === undefined ? undefined : parseAddress(last);
      const address = this.choose(family, used, before, only);
      if (address !== undefined) return address;
      const which = only === undefined ? '' : ' in the ranges of the network configuration';
      throw new TwillError(
        'exhausted',
        `all pod addresses of this node's subnet ${family.subnet.text}${which} are in use; delete pods or use a shorter SubnetLen`,
      );
    });
    const inTurn = chosen.filter((address) => !wanted.includes(address));
    if (inTurn.length > 0)
      this.store.setLast(Object.fromEntries(inTurn.map(({ family, text }) => [family.name, text])));
    for (const { text } of chosen) this.reserved.add(text);
    return chosen;
  }

  private choose(
    family: PodNetworkFamily,
    used: Set<string>,
    last: Address | undefined,
    only: readonly Interval[] | undefined,
  ): Address | undefined {
    for (;;) {
      const address = chooseAddress(family, used, last, only);
      if (address === undefined || !this.others.isReserved(address.text)) return address;
      used.add(address.text);
    }
  }

  private checkRequested(
    network: PodNetwork,
    used: ReadonlySet<string>,
    ranges: Ranges,
    { text, from }: RequestedAddress,
  ): Address {
    const address = this.findRequested(network, ranges, text);
    if (address === undefined) {
      const subnets = network.families.map(({ subnet }) => subnet.text).join(', ');
      throw new TwillError(
        'invalid',
        `${from}: ${text} is not a pod address of ${subnets || 'this network, whose pods have none'}`,
      );
    }
    if (used.has(address.text) || this.others.isReserved(address.text))
      throw new TwillError('conflict', `${from}: ${address.text} is in use`);
    return address;
  }

  private findRequested(network: PodNetwork, ranges: Ranges, text: string): Address | undefined {
    let address: Address;
    try {
      address = unmapped(parseAddress(text.split('/')[0] ?? ''));
    } catch {
      return undefined;
    }
    const family = network.families.find(({ subnet }) => prefixContains(subnet, address));
    if (family === undefined) return undefined;
    return isPodAddress(family, address, ranges.get(family.family)) ? address : undefined;
  }

  /** @throws TwillError `exhausted` when a subnet has no address left */
  assertFree(network: PodNetwork): void {
    const used = this.used();
    const full = network.families.find(
      (family) => this.choose(family, used, undefined, undefined) === undefined,
    );
    if (full === undefined) return;
    throw new TwillError(
      'exhausted',
      `all pod addresses of this node's subnet ${full.subnet.text} are in use`,
    );
  }

  /** Ends reservations: the addresses are free unless a record holds them. */
  release(addresses: readonly string[]): void {
    for (const address of addresses) this.reserved.delete(address);
  }
}
