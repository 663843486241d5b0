import { FLAT_LIMIT } from './shared-chain.ts';

/**
 * KUBE-GUARD (table filter): drops new connections to a Service's cluster address and port that were not sent on to an
 * endpoint. That happens only while rules of table nat are missing (somebody flushed them). Without it such a packet would
 * leave the node, be refused somewhere, and leave a connection tracking entry that keeps later packets of the connection
 * from being sent on; dropped, it is sent again a second later and finds the rules back. What is no Service's port is
 * nobody's to drop, so each is named; above a thousand of them there is no guard: every new connection of the node would
 * pass these rules, and a cold start would take a tenth longer.
 */
export const guardChain = 'KUBE-GUARD';

/** A Service's cluster address and port that no packet should leave the node with. */
export interface GuardedPort {
  readonly address: string;
  /** Lower case. */
  readonly protocol: string;
  readonly port: number;
}

export function guardRule({ address, protocol, port }: GuardedPort): string {
  const host = `${address}/${address.includes(':') ? 128 : 32}`;
  return `-A ${guardChain} -d ${host} -p ${protocol} -m ${protocol} --dport ${port} -j DROP`;
}

interface Guarded {
  readonly port: GuardedPort;
  /** Service ports that want it. */
  count: number;
}

const portKey = ({ protocol, port }: GuardedPort): string => `${port}/${protocol}`;

/** All that are guarded. Their rules are made when they are asked for: of many there are none. */
export class GuardedPorts {
  /** By address, then by port: one address may have thousands. */
  private readonly byAddress = new Map<string, Map<string, Guarded>>();
  /** How many there are, the same one counted once. */
  private size = 0;
  private touched = true;

  /** The same port added twice stands once until both are removed. */
  add(port: GuardedPort): void {
    const ports = this.byAddress.get(port.address) ?? new Map<string, Guarded>();
    const known = ports.get(portKey(port));
    if (known !== undefined) {
      known.count++;
      return;
    }
    ports.set(portKey(port), { port, count: 1 });
    this.byAddress.set(port.address, ports);
    this.resize(1);
  }

  /** @param port like one that was added */
  remove(port: GuardedPort): void {
    const ports = this.byAddress.get(port.address);
    const known = ports?.get(portKey(port));
    if (ports === undefined || known === undefined || --known.count > 0) return;
    ports.delete(portKey(port));
    if (ports.size === 0) this.byAddress.delete(port.address);
    this.resize(-1);
  }

  hasAddress(address: string): boolean {
    return this.byAddress.has(address);
  }

  /** The chain's text when it may have changed since the last call; undefined when it has not. */
  flush(): string | undefined {
    if (!this.touched) return undefined;
    this.touched = false;
    if (this.size > FLAT_LIMIT) return '';
    const all = [...this.byAddress.values()].flatMap((ports) => [...ports.values()]);
    return all
      .map(({ port }) => guardRule(port))
      .sort()
      .join('\n');
  }

  private resize(by: 1 | -1): void {
    this.size += by;
    this.touched = true;
  }
}
