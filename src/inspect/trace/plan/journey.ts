/** What the parts of a walk share: where it ends, and how one part hands a packet to another. */
import type { Packet } from './packet.ts';
import {
  type Asking,
  ask,
  type Device,
  type RouteFound,
  type RouteRefused,
  type Space,
} from './questions.ts';
import { type State, type Step, withStep } from './state.ts';

/**
 * Where one way ends: at a process of this node or of one of its pods, out of this node's sight, or nowhere.
 */
export interface Ending {
  readonly result: 'delivered' | 'left' | 'died';
  /** The namespace it ended in. */
  readonly space: string;
  readonly where: string;
  /** Of what left: the device. */
  readonly device?: string;
  /** Of what left to another machine: its address. */
  readonly nextHop?: string;
  /** One sentence. */
  readonly reason: string;
  /** What to do about it. */
  readonly advice?: string;
  readonly state: State;
}

/** The parts of the walk, each of which leads on to others. */
export interface Ways {
  /** A process of the namespace sends it. */
  output(space: string, state: State): Asking<Ending[]>;
  /** It has come in by a device. @param looked PREROUTING has been walked, by a bridge */
  input(space: string, device: string, state: State, looked?: boolean): Asking<Ending[]>;
  /** It leaves by a device, to the next machine. */
  transmit(space: string, device: string, nextHop: string, state: State): Asking<Ending[]>;
  /** What all rules of a hook make of it: `next` with what passes. */
  hook(
    space: string,
    hook: 'prerouting' | 'forward' | 'postrouting',
    state: State,
    next: (state: State) => Asking<Ending[]>,
  ): Asking<Ending[]>;
}

export function* spaceOf(id: string): Asking<Space> {
  return yield* ask('space', id, {});
}

export function deviceOf(space: Space, name: string | undefined): Device | undefined {
  return space.devices.find((device) => device.name === name);
}

export function step(
  state: State,
  space: Space,
  kind: Step['kind'],
  text: string,
  more: Partial<Step> = {},
): State {
  return withStep(state, { where: space.name, kind, text, ...more });
}

export function died(space: Space, state: State, reason: string, advice?: string): Ending {
  return {
    result: 'died',
    space: space.id,
    where: space.name,
    reason,
    ...(advice === undefined ? {} : { advice }),
    state,
  };
}

export function isRefused(route: RouteFound | RouteRefused): route is RouteRefused {
  return 'refused' in route;
}

/** How the namespace would send this packet on now. */
export function* routeFor(
  space: string,
  packet: Packet,
  inDevice?: string,
): Asking<RouteFound | RouteRefused> {
  return yield* ask('route', space, {
    destination: packet.destination,
    source: packet.source === '' ? undefined : packet.source,
    inDevice,
    mark: packet.mark,
    protocol: packet.protocol,
    sourcePort: packet.sourcePort,
    port: packet.port,
  });
}

const makers: Readonly<Record<number, string>> = { 2: 'kernel', 3: 'boot', 4: 'static', 16: 'dhcp', 9: 'ra' };
const tables: Readonly<Record<number, string>> = { 253: 'default', 254: 'main', 255: 'local' };

/** As `ip route` would print it, and the table. */
export function routeText(route: RouteFound): string {
  const { destination, gateway, device, table, protocol, source } = route;
  if (route.type === 'local') return `${destination ?? 'the address'} is this machine's own`;
  const words = [
    destination ?? 'default',
    ...(gateway === undefined ? [] : [`via ${gateway}`]),
    `dev ${device}`,
    ...(protocol === undefined ? [] : [`proto ${makers[protocol] ?? protocol}`]),
    ...(source === undefined ? [] : [`src ${source}`]),
  ];
  return `${words.join(' ')} (table ${tables[table ?? 254] ?? table})`;
}

/** Runs one way after the other. */
export function* each<T>(items: readonly T[], way: (item: T) => Asking<Ending[]>): Asking<Ending[]> {
  const endings: Ending[] = [];
  for (const item of items) endings.push(...(yield* way(item)));
  return endings;
}
