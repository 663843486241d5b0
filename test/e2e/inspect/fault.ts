/** Faults of a node: how each is made and undone, and which command names it. */
import { parseAddress } from '../../../src/model/address.ts';
import { nexthopId } from '../../../src/overlay/plan/entries.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';

/** What the faults are about. */
export interface Scene {
  readonly lab: Lab;
  readonly node: LabNode;
  readonly pod: Pod;
  readonly veth: string;
  /** The first address of the node's subnet. */
  readonly own: string;
  /** The one of the pods' bridge. */
  readonly gateway: string;
}

export type Command = 'status' | 'routes' | 'diff' | 'services';

export interface Fault {
  readonly name: string;
  /** Shell commands on the node. */
  readonly apply: (scene: Scene) => string;
  readonly undo: (scene: Scene) => string;
  /** The command that names it, and what it says. */
  readonly by: Command;
  readonly says: (scene: Scene) => RegExp;
}

export const id = (third: number): number => nexthopId(parseAddress(`10.244.${third}.0`));
export const mac = (third: number): string => `02:00:00:00:00:${third}`;
export const escaped = (text: string): string => text.replace(/[.()/$]/g, '\\$&');
export const text =
  (...parts: string[]) =>
  (): RegExp =>
    new RegExp(parts.map(escaped).join('[^]*?'));

export const route40 = `ip route replace 10.244.40.0/24 nhid ${id(40)} proto 80`;
export const hop = (third: number): string =>
  `ip nexthop replace id ${id(third)} via 10.244.${third}.0 dev flannel.1 onlink protocol 80`;
/** What hangs on the device goes with it (neighbour entries with its last address, say): agent and proxy put it right, and are stopped again. */
export const resume = 'true # resume';
export const restoreRules = 'iptables-nft-restore < rules.saved';
