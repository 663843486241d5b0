import { subnetsOf } from '../leases/plan/lease.ts';
import type { NetworkConfig } from '../leases/plan/network-config.ts';
import type { LeaseSource } from '../leases/plan/source.ts';
import type { Prefix } from '../model/address.ts';
import type { ListedHost } from './host.ts';
import { isOverlayName } from './plan/device.ts';
import { type Ground, makeGround, networksLeft } from './plan/ground.ts';

export interface NodeGroundOptions {
  readonly source: LeaseSource;
  /** Name of the pods' bridge. */
  readonly bridge: string;
  /** Pod networks of an earlier run. */
  readonly former: readonly Prefix[];
}

const networksOf = ({ families }: NetworkConfig): Prefix[] => families.map(({ network }) => network);

/**
 * Knows what no peer may take. While the configuration is changed, nodes that have taken it up and nodes that have not
 * are in one cluster: the network that comes counts, and those of before as long as there are leases in them.
 */
export class NodeGround {
  private readonly options: NodeGroundOptions;
  private former: readonly Prefix[];
  private found: Ground = { networks: [], taken: [], addresses: new Set() };

  constructor(options: NodeGroundOptions) {
    this.options = options;
    this.former = options.former;
  }

  get current(): Ground {
    return this.found;
  }

  /** This configuration will not be in force any more. */
  leave(config: NetworkConfig): void {
    this.former = [...this.former, ...networksOf(config)];
  }

  look(host: ListedHost, config: NetworkConfig): Ground {
    const { source, bridge } = this.options;
    const all = [...networksOf(config), ...networksOf(source.latestConfig() ?? config)];
    const inForce = new Map(all.map((network) => [network.text, network]));
    const subnets = [...source.leases().values()].flatMap(subnetsOf);
    this.former = networksLeft(
      this.former.filter(({ text }) => !inForce.has(text)),
      subnets,
    );
    const input = { ...host, servers: source.servers() };
    const pods = (name: string): boolean => name === bridge || isOverlayName(name);
    this.found = makeGround([...inForce.values(), ...this.former], input, pods);
    return this.found;
  }
}
