import { chooseAddress } from '../desired/pod-plan-address.ts';
import { type Address, parseAddress } from '../model/address.ts';
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
   * @throws TwillError `exhausted` naming the subnet that is full
   */
  reserve(network: PodNetwork): Address[] {
    const used = this.used();
    const chosen = network.families.map((family) => {
      const last = this.store.lastAddress(family.family.name);
      const address = chooseAddress(family, used, last === undefined ? undefined : parseAddress(last));
      if (address !== undefined) return address;
      throw new TwillError(
        'exhausted',
        `all pod addresses of this node's subnet ${family.subnet.text} are in use; delete pods or use a shorter SubnetLen`,
      );
    });
    this.store.setLast(Object.fromEntries(chosen.map(({ family, text }) => [family.name, text])));
    for (const { text } of chosen) this.reserved.add(text);
    return chosen;
  }

  /** Ends reservations: the addresses are free unless a record holds them. */
  release(addresses: readonly string[]): void {
    for (const address of addresses) this.reserved.delete(address);
  }
}
