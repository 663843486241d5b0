/**
 * KUBE-GUARD (table filter): drops new connections to a Service's cluster address and port that were not sent on to an
 * endpoint. That happens only while rules of table nat are missing (somebody flushed them). Without it such a packet would
 * leave the node, be refused somewhere, and leave a connection tracking entry that keeps later packets of the connection
 * from being sent on; dropped, it is sent again a second later and finds the rules back. What is no Service's port is
 * nobody's to drop, so each is named; above a thousand of them there is no guard: every new connection of the node would
 * pass these rules, and a cold start would take a tenth longer.
 */
export const guardChain = 'KUBE-GUARD';

/** The addresses that are guarded. */
export class GuardedAddresses {
  private readonly ports = new Map<string, number>();

  add(address: string): void {
    this.count(address, 1);
  }

  remove(address: string): void {
    this.count(address, -1);
  }

  has(address: string): boolean {
    return this.ports.has(address);
  }

  private count(address: string, by: 1 | -1): void {
    const count = (this.ports.get(address) ?? 0) + by;
    if (count === 0) this.ports.delete(address);
    else this.ports.set(address, count);
  }
}
