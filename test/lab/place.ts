import type { RunOptions } from '../../src/kernel/process.ts';
import type { Namespace } from './namespace.ts';
import { Probe } from './probe.ts';

/** Addresses by family; a family that is not there is absent. */
export interface Addresses {
  readonly ipv4?: string;
  readonly ipv6?: string;
}

/** The port on which every place that serves answers. */
export const servicePort = 8080;

/** Somewhere in the lab from which and to which traffic goes: a node, a pod, the outside client. */
export class Place {
  readonly name: string;
  readonly namespace: Namespace;
  private readonly addresses: Addresses;
  private startedProbe: Probe | undefined;
  private served: Promise<void> | undefined;

  constructor(name: string, namespace: Namespace, addresses: Addresses) {
    this.name = name;
    this.namespace = namespace;
    this.addresses = addresses;
  }

  /** @throws Error when it has no IPv4 address */
  get ipv4(): string {
    if (this.addresses.ipv4 === undefined) throw new Error(`${this.name} has no IPv4 address`);
    return this.addresses.ipv4;
  }

  /** @throws Error when it has no IPv6 address */
  get ipv6(): string {
    if (this.addresses.ipv6 === undefined) throw new Error(`${this.name} has no IPv6 address`);
    return this.addresses.ipv6;
  }

  /** Sends traffic from here; its process starts on first use. */
  get probe(): Probe {
    this.startedProbe ??= new Probe(this.namespace);
    return this.startedProbe;
  }

  /** Answers TCP and UDP on `servicePort` with this place's name; asking twice is fine. */
  serve(): Promise<void> {
    this.served ??= this.probe.listen(servicePort, this.name);
    return this.served;
  }

  /** Runs a program here to its end. @returns its standard output @throws TwillError with its standard error */
  exec(program: string, args: readonly string[], options?: RunOptions): Promise<string> {
    return this.namespace.exec(program, args, options);
  }
}
