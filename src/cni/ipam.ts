import { chooseAddress, isPodAddress } from '../desired/pod-plan-address.ts';
import { type Address, parseAddress, prefixContains } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { PodRecord } from '../model/pod.ts';
import type { PodNetwork } from '../model/pod-network.ts';
import type { PodStore } from './store.ts';

/** The addresses of a record without their prefix lengths. */
export function addressesOf(record: PodRecord): string[] {
  return record.addresses.map(({ address }) => address.slice(0, address.indexOf('/')));
}

/**
 * Gives out pod addresses. Everything here is synchronous, so two pods can never get one address; an address is in
 * use while it is reserved here (its ADD or DEL is under way) or a record holds it.
 */
export class Ipam {
  private readonly store: PodStore;
  private readonly reserved = new Set<string>();

  constructor(store: PodStore) {
    this.store = store;
  }

  /** Addresses in use, as canonical text. */
  used(): Set<string> {
    const used = new Set(this.reserved);
    for (const record of this.store.list()) for (const address of addressesOf(record)) used.add(address);
    return used;
  }

  /**
   * One address of each family, reserved until {@link release}.
   * @param requested addresses that are wanted instead of the next in turn, perhaps with a prefix length
   * @throws TwillError `exhausted` naming the subnet that is full, `invalid` or `conflict` for a requested address that is
   *   in none of the subnets or in use
   */
  reserve(network: PodNetwork, requested: readonly string[] = []): Address[] {
    const used = this.used();
    const wanted = requested.map((text) => this.checkRequested(network, used, text));
    const chosen = network.families.map((family) => {
      const asked = wanted.find((address) => address.family === family.family);
      if (asked !== undefined) return asked;
      const last = this.store.lastAddress(family.family.name);
      const address = chooseAddress(family, used, last === undefined ? undefined : parseAddress(last));
      if (address !== undefined) return address;
      throw new TwillError(
        'exhausted',
        `all pod addresses of this node's subnet ${family.subnet.text} are in use; delete pods or use a shorter SubnetLen`,
      );
    });
    const inTurn = chosen.filter((address) => !wanted.includes(address));
    if (inTurn.length > 0)
      this.store.setLast(Object.fromEntries(inTurn.map(({ family, text }) => [family.name, text])));
    for (const { text } of chosen) this.reserved.add(text);
    return chosen;
  }

  private checkRequested(network: PodNetwork, used: ReadonlySet<string>, text: string): Address {
    const address = parseAddress(text.split('/')[0] ?? '');
    const family = network.families.find(({ subnet }) => prefixContains(subnet, address));
    if (family === undefined || !isPodAddress(family, address)) {
      const subnets = network.families.map(({ subnet }) => subnet.text).join(', ');
      throw new TwillError('invalid', `the requested address ${text} is not a pod address of ${subnets}`);
    }
    if (used.has(address.text))
      throw new TwillError('conflict', `the requested address ${address.text} is in use`);
    return address;
  }

  /** @throws TwillError `exhausted` when a subnet has no address left */
  assertFree(network: PodNetwork): void {
    const used = this.used();
    const full = network.families.find((family) => chooseAddress(family, used, undefined) === undefined);
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
