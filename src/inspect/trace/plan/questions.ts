/** What the walk asks the kernel: it says what it wants to know, and is given the answer. Nothing here has an effect. */
import type { Family } from '../../../model/address.ts';
import type { SetElement } from './chains.ts';
import type { RuleSet } from './hooks.ts';
import type { Protocol } from './packet.ts';

/** A device as far as packets care. */
export interface Device {
  readonly name: string;
  readonly kind: string | undefined;
  readonly up: boolean;
  /** It has a carrier: what is sent arrives at the other end. */
  readonly running: boolean;
  readonly mtu: number;
  readonly mac: string;
  readonly addresses: readonly { readonly address: string; readonly length: number }[];
  /** The bridge that it is a port of. */
  readonly master: string | undefined;
  /** Of a bridge's port. */
  readonly port:
    | { readonly forwarding: boolean; readonly hairpin: boolean; readonly isolated: boolean }
    | undefined;
  readonly vxlan:
    | {
        readonly vni: number;
        readonly port: number;
        readonly local: string | undefined;
        readonly underlay: string | undefined;
      }
    | undefined;
}

/** One network namespace. */
export interface Space {
  /** `node`, or what identifies a pod's. */
  readonly id: string;
  /** For people: `node`, `pod shop/web`. */
  readonly name: string;
  readonly devices: readonly Device[];
}

/** How the kernel would send a packet on. */
export interface RouteFound {
  readonly type: 'unicast' | 'local' | 'broadcast' | 'multicast' | 'other';
  readonly device: string;
  readonly gateway: string | undefined;
  readonly source: string | undefined;
  /** The entry that decides: its destination, table and who made it. */
  readonly destination: string | undefined;
  readonly table: number | undefined;
  readonly protocol: number | undefined;
  readonly mtu: number | undefined;
}

/** Why the kernel would not: the name of the error, e.g. `ENETUNREACH`. */
export interface RouteRefused {
  readonly refused: string;
}

export interface Neighbour {
  readonly mac: string | undefined;
  /** NUD_* as a word: `permanent`, `reachable`, `stale`, `failed`, … */
  readonly state: string;
}

/** Somebody behind a device of the node. */
export interface Resident {
  /** The node's device. */
  readonly port: string;
  /** The bridge that it is a port of. */
  readonly bridge: string | undefined;
  readonly space: string;
  readonly device: string;
  readonly mac: string;
  readonly up: boolean;
  readonly addresses: readonly string[];
}

/** The far end of a pair of devices. */
export interface Peer {
  readonly space: string;
  readonly device: string;
}

export interface RouteQuestion {
  readonly destination: string;
  readonly source: string | undefined;
  /** The device that the packet came in by; undefined for what the namespace itself sends. */
  readonly inDevice: string | undefined;
  readonly mark: number;
  readonly protocol: Protocol;
  readonly sourcePort: number | undefined;
  readonly port: number | undefined;
}

/** Every kind of question with what belongs to it, and the answer. */
export interface Asked {
  readonly space: { readonly about: object; readonly answer: Space };
  readonly route: { readonly about: RouteQuestion; readonly answer: RouteFound | RouteRefused };
  readonly rules: { readonly about: { readonly family: Family }; readonly answer: RuleSet };
  readonly setting: { readonly about: { readonly name: string }; readonly answer: string | undefined };
  readonly neighbour: {
    readonly about: { readonly device: string; readonly address: string };
    readonly answer: Neighbour | undefined;
  };
  /** Where a VXLAN device sends frames for a MAC address, or by which port a bridge does. */
  readonly forwarding: {
    readonly about: { readonly device: string; readonly mac: string };
    readonly answer:
      | { readonly destination: string | undefined; readonly port: string | undefined }
      | undefined;
  };
  /** Everybody behind the node's devices, on whichever bridge. */
  readonly residents: { readonly about: object; readonly answer: readonly Resident[] };
  readonly peer: { readonly about: { readonly device: string }; readonly answer: Peer | undefined };
  /** Whether somebody listens; undefined where it cannot be told. */
  readonly listener: {
    readonly about: {
      readonly family: Family;
      readonly protocol: Protocol;
      readonly address: string;
      readonly port: number;
    };
    readonly answer: boolean | undefined;
  };
  readonly addressType: { readonly about: { readonly address: string }; readonly answer: string };
  readonly element: {
    readonly about: { readonly set: string; readonly key: readonly string[] };
    readonly answer: SetElement | undefined;
  };
  readonly recent: {
    readonly about: { readonly list: string };
    readonly answer: readonly string[] | undefined;
  };
  readonly ipset: {
    readonly about: { readonly name: string; readonly entry: string };
    readonly answer: boolean | undefined;
  };
}

export type Kind = keyof Asked;

export interface Question<K extends Kind = Kind> {
  readonly kind: K;
  /** The namespace that it is about. */
  readonly in: string;
  readonly about: Asked[K]['about'];
}

export type Asking<T> = Generator<Question, T, unknown>;

export function* ask<K extends Kind>(
  kind: K,
  space: string,
  about: Asked[K]['about'],
): Asking<Asked[K]['answer']> {
  return (yield { kind, in: space, about }) as Asked[K]['answer'];
}

/** The same for the same question. */
export function questionKey({ kind, in: space, about }: Question): string {
  return `${kind} ${space} ${JSON.stringify(about, (_, value) => (typeof value === 'bigint' ? `${value}` : value))}`;
}

/** Thrown by what cannot wait for an answer: rules ask in the middle of a chain, which is walked again with the answer. */
export class Unanswered extends Error {
  readonly question: Question;

  constructor(question: Question) {
    super(questionKey(question));
    this.question = question;
  }
}
