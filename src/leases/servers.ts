import { lookup } from 'node:dns/promises';
import { type Address, tryParseAddress } from '../model/address.ts';
import { monotonicMs } from '../process/clock.ts';

/** A name may mean another address later. */
const FRESH_MS = 60_000;

/** The host of an endpoint: `https://[2001:db8::1]:2379`, `etcd:2379`. */
function hostOf(endpoint: string): string {
  const authority = endpoint.replace(/^[a-z]+:\/\//i, '').replace(/[/?#].*$/, '');
  const bracketed = /^\[([^\]]*)\]/.exec(authority)?.[1];
  return bracketed ?? (tryParseAddress(authority) === undefined ? authority.replace(/:\d*$/, '') : authority);
}

/** The addresses that endpoints have. Names are looked up beside everything else, and may not be known yet. */
export class ServerAddresses {
  private readonly literal: Address[] = [];
  private readonly names: string[] = [];
  private resolved: Address[] = [];
  private at = Number.NEGATIVE_INFINITY;

  constructor(endpoints: readonly string[]) {
    for (const host of endpoints.map(hostOf)) {
      const address = tryParseAddress(host);
      if (address !== undefined) this.literal.push(address);
      else if (host !== '' && !host.includes('/')) this.names.push(host);
    }
  }

  get known(): readonly Address[] {
    if (this.names.length > 0 && monotonicMs() - this.at > FRESH_MS) void this.resolve();
    return [...this.literal, ...this.resolved];
  }

  private async resolve(): Promise<void> {
    this.at = monotonicMs();
    const answers = await Promise.allSettled(this.names.map((name) => lookup(name, { all: true })));
    const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (found.length > 0) this.resolved = found.flatMap(({ address }) => tryParseAddress(address) ?? []);
  }
}
