/**
 * KUBE-GUARD (table filter): drops new connections to a cluster address that were not sent on to an endpoint. That
 * happens only while rules of table nat are missing (somebody flushed them). Without it such a packet would leave the
 * node, be refused somewhere, and leave a connection tracking entry that keeps later packets of the connection from being
 * sent on; dropped, it is sent again a second later and finds the rules back.
 */

import { parsePrefix } from '../../../model/address.ts';

/** Above this many addresses their blocks of 256 are guarded: a Service network that holds so many is larger than that. */
const EXACT_LIMIT = 256;

export const guardChain = 'KUBE-GUARD';

function block(address: string, v6: boolean): string {
  if (!v6) return `${address.slice(0, address.lastIndexOf('.'))}.0/24`;
  // The last group without its low byte; groups are written without leading zeros.
  const colon = address.lastIndexOf(':');
  const high = Number.parseInt(address.slice(colon + 1) || '0', 16) & 0xff00;
  // A last group of zero may be part of the longest run of them, which is not written.
  if (high === 0) return parsePrefix(`${address}/120`).text;
  return `${address.slice(0, colon + 1)}${high.toString(16)}/120`;
}

export class GuardChain {
  private readonly v6: boolean;
  private readonly addresses = new Map<string, number>();
  private readonly blocks = new Map<string, number>();
  private changed = true;
  private exact = true;

  constructor(v6: boolean) {
    this.v6 = v6;
  }

  add(address: string): void {
    this.count(this.addresses, address, 1, true);
    this.count(this.blocks, block(address, this.v6), 1, false);
  }

  remove(address: string): void {
    this.count(this.addresses, address, -1, true);
    this.count(this.blocks, block(address, this.v6), -1, false);
  }

  has(address: string): boolean {
    return this.addresses.has(address);
  }

  /** The chain's text if it changed since the last call. */
  flush(): string | undefined {
    const exact = this.addresses.size <= EXACT_LIMIT;
    if (!this.changed && exact === this.exact) return undefined;
    this.changed = false;
    this.exact = exact;
    const networks = exact
      ? [...this.addresses.keys()].map((address) => address + (this.v6 ? '/128' : '/32'))
      : [...this.blocks.keys()];
    return networks
      .sort()
      .map((network) => `-A ${guardChain} -d ${network} -j DROP`)
      .join('\n');
  }

  private count(counts: Map<string, number>, key: string, by: 1 | -1, exact: boolean): void {
    const count = (counts.get(key) ?? 0) + by;
    if (count === 0) counts.delete(key);
    else counts.set(key, count);
    if (exact === this.exact && (count === 0 || (by === 1 && count === 1))) this.changed = true;
  }
}
