/**
 * Which tracked UDP and SCTP flows go somewhere they should not go any more. A client that sends from one port for ever
 * (a DNS resolver, say) would otherwise stay with an endpoint that is gone, or with the time when there was none.
 */
import type { Flow, Protocol } from '../../model/flow.ts';
import type { ServicePortEntry } from './table.ts';

/**
 * A TCP connection that began while rules were missing: nobody answers at a Service's address, and tracking keeps every
 * further attempt of it from being sent on to an endpoint.
 * @param isServed tells addresses of Services that have endpoints
 */
export function isLost(flow: Flow, isServed: (address: string) => boolean): boolean {
  const { protocol, destination, backend, replied } = flow;
  return (
    protocol === 'TCP' && !replied && backend.address === destination.address && isServed(destination.address)
  );
}

type Backends = ReadonlySet<string>;

/** Endpoints that may answer at a destination, by the Service that claims it. */
type Owners = ReadonlyMap<string, Backends>;

const nobody: Owners = new Map();

/** A node port, as {@link FlowTable} knows it. */
export function portKey(protocol: Protocol, port: number): string {
  return `${protocol} ${port}`;
}

/** An address and port, as {@link FlowTable} knows it. */
export function addressKey(protocol: Protocol, address: string, port: number): string {
  return `${protocol} ${address} ${port}`;
}

/** Destinations of one Service's UDP and SCTP ports with the endpoints that may answer for them. */
function destinations(entries: readonly ServicePortEntry[]): Map<string, Backends> {
  const found = new Map<string, Backends>();
  for (const entry of entries) {
    if (entry.protocol === 'TCP') continue;
    const backends = new Set(entry.serving);
    for (const address of [entry.clusterIP, ...entry.externalIPs, ...entry.loadBalancerIPs]) {
      found.set(addressKey(entry.protocol, address, entry.port), backends);
    }
    if (entry.nodePort !== 0) found.set(portKey(entry.protocol, entry.nodePort), backends);
  }
  return found;
}

const ofAddress = / -d (\S+)\/(?:32|128) -p (udp|sctp) .*--dport (\d+) -j KUBE-/;
const ofNodePort = /^-A KUBE-NODEPORTS\S* -p (udp|sctp) .*--dport (\d+) -j KUBE-/;

/**
 * The UDP and SCTP destinations that rules lead on from, for {@link FlowTable.recall}.
 * @param chains table nat as iptables-save prints it, by chain: ours, or those of a kube-proxy that was here before
 */
export function standingDestinations(chains: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  for (const [name, text] of chains) {
    if (!/^KUBE-(SERVICES|NODEPORTS)/.test(name)) continue;
    for (const line of text.split('\n')) {
      const [, address, of, port] = ofAddress.exec(line) ?? [];
      if (address !== undefined) found.push(addressKey(of!.toUpperCase() as Protocol, address, Number(port)));
      const [, by, nodePort] = ofNodePort.exec(line) ?? [];
      if (nodePort !== undefined) found.push(portKey(by!.toUpperCase() as Protocol, Number(nodePort)));
    }
  }
  return found;
}

/** Knows every UDP and SCTP destination of the Services of one family, also those that are just gone. */
export class FlowTable {
  /** By destination and Service: several Services may claim one address. */
  private readonly current = new Map<string, Map<string, Backends>>();
  private readonly services = new Map<string, readonly string[]>();
  /** Destinations that no Service has any more; their flows are stale until {@link forgetGone}. */
  private gone = new Set<string>();
  private changed = false;

  /** True when flows may have become stale since {@link forgetGone}. */
  get dirty(): boolean {
    return this.changed;
  }

  get isEmpty(): boolean {
    return this.current.size === 0 && this.gone.size === 0;
  }

  setService(key: string, entries: readonly ServicePortEntry[]): void {
    const now = destinations(entries);
    const before = this.services.get(key);
    if (before === undefined && now.size === 0) return;
    for (const destination of before ?? []) {
      if (!now.has(destination)) this.remove(destination, key);
    }
    for (const [destination, backends] of now) {
      const owners = this.current.get(destination);
      if (owners === undefined) this.current.set(destination, new Map([[key, backends]]));
      else owners.set(key, backends);
      this.gone.delete(destination);
    }
    if (now.size === 0) this.services.delete(key);
    else this.services.set(key, [...now.keys()]);
    this.changed = true;
  }

  /** Destinations of an earlier run: those that no Service has now went while nobody looked. */
  recall(destinations: readonly string[]): void {
    for (const destination of destinations) {
      if (this.current.has(destination)) continue;
      this.gone.add(destination);
      this.changed = true;
    }
  }

  /** Call before looking at the flows: what changes from then on counts for the next look. */
  beginLook(): void {
    this.changed = false;
  }

  /** Call when stale flows were deleted. */
  forgetGone(): void {
    if (!this.changed) this.gone.clear();
  }

  /** Call when deleting failed: the next look is needed whatever changes. */
  lookAgain(): void {
    this.changed = true;
  }

  /** @param isOwn tells addresses of this node, on which node ports answer */
  isStale(flow: Flow, isOwn: (address: string) => boolean): boolean {
    const { protocol, destination, backend } = flow;
    const owners =
      this.owners(addressKey(protocol, destination.address, destination.port)) ??
      (isOwn(destination.address) ? this.owners(portKey(protocol, destination.port)) : undefined);
    if (owners === undefined) return false;
    const answering = `${backend.address}|${backend.port}`;
    for (const backends of owners.values()) if (backends.has(answering)) return false;
    return true;
  }

  private owners(key: string): Owners | undefined {
    return this.current.get(key) ?? (this.gone.has(key) ? nobody : undefined);
  }

  private remove(destination: string, service: string): void {
    const owners = this.current.get(destination);
    owners?.delete(service);
    if (owners === undefined || owners.size > 0) return;
    this.current.delete(destination);
    this.gone.add(destination);
  }
}
