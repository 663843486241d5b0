/** The whole way of a packet: there, and of its answer back. Values in, questions to the kernel, steps out. */

import { deviceOf, died, type Ending, isRefused, routeFor, spaceOf, step, type Ways } from './journey.ts';
import { routed, translated } from './lost.ts';
import { endText, type Packet } from './packet.ts';
import { type Asking, ask } from './questions.ts';
import type { TraceRequest } from './request.ts';
import { input, output, throughHook } from './stack.ts';
import { begin, innermost, type State } from './state.ts';
import { unwrap } from './tunnel.ts';
import { transmit } from './wire.ts';

const ways: Ways = {
  output: (space, state) => output(ways, space, state),
  input: (space, device, state, looked = false) => input(ways, space, device, state, looked),
  transmit: (space, device, nextHop, state) => transmit(ways, space, device, nextHop, state),
  hook: throughHook,
};

/** One way there, and the ways of the answer. */
export interface Way {
  readonly there: Ending;
  /** Empty where the packet does not arrive. */
  readonly back: readonly Ending[];
}

function firstPacket({ family, protocol, from, destination, port }: TraceRequest): Packet {
  return {
    family,
    protocol,
    source: from.address ?? '',
    sourcePort: undefined,
    destination,
    port,
    mark: 0,
    tracking: undefined,
    opening: true,
  };
}

/** What comes from somewhere else comes in by the device that packets to there go out of. */
function* arrive(state: State): Asking<Ending[]> {
  const node = yield* spaceOf('node');
  const { source } = state.packet;
  const question = { ...state.packet, source: '', destination: source, port: undefined };
  const route = yield* routeFor('node', question);
  if (isRefused(route))
    return [
      died(
        node,
        state,
        `it is not known by which device packets from ${source} come: there is no route back`,
      ),
    ];
  return yield* arriveBy(route.device, route.gateway ?? source, state);
}

function* arriveBy(device: string, hop: string, start: State): Asking<Ending[]> {
  const node = yield* spaceOf('node');
  const found = deviceOf(node, device);
  if (found?.up !== true)
    return [died(node, start, `the device ${device} is down`, `ip link set ${device} up`)];
  const vtep = found.vxlan === undefined ? undefined : yield* senderOf(device, hop);
  const text = `${start.packet.source} is behind ${device}: it comes in there, if its own node sends it`;
  const state = step(start, node, 'send', text, { device });
  if (vtep === undefined) return yield* ways.input('node', device, state);
  return yield* unwrap(ways, 'node', device, vtep, state);
}

/** The node behind a next hop of the tunnel. */
function* senderOf(device: string, hop: string): Asking<string | undefined> {
  const entry = yield* ask('neighbour', 'node', { device, address: hop });
  if (entry?.mac === undefined) return undefined;
  return (yield* ask('forwarding', 'node', { device, mac: entry.mac }))?.destination;
}

function answerTo(state: State): State {
  const packet = innermost(state);
  return {
    ...state,
    trail: undefined,
    carried: [],
    mtu: undefined,
    packet: {
      family: packet.family,
      protocol: packet.protocol,
      source: packet.destination,
      sourcePort: packet.port,
      destination: packet.source,
      port: packet.sourcePort,
      mark: 0,
      tracking: undefined,
      opening: false,
    },
  };
}

/** The tunnel's device that a packet left by, and the node that it was sent to. */
function carrierOf({ carried, packet, trail }: State): { device: string; remote: string } | undefined {
  if (carried.length === 0) return undefined;
  for (let at = trail; at !== undefined; at = at.before)
    if (at.step.kind === 'tunnel' && at.step.device !== undefined)
      return { device: at.step.device, remote: packet.destination };
  return undefined;
}

function* back(there: Ending, request: TraceRequest): Asking<Ending[]> {
  const answer = answerTo(there.state);
  const carrier = carrierOf(there.state);
  const endings =
    there.result === 'delivered'
      ? yield* ways.output(there.space, answer)
      : carrier !== undefined
        ? yield* unwrap(ways, 'node', carrier.device, carrier.remote, answer)
        : yield* ways.input('node', there.device ?? '', answer);
  const checked: Ending[] = [];
  for (const ending of endings) checked.push(yield* recognised(ending, request));
  return checked;
}

/** Whoever asked takes an answer only from whom it asked. */
function* recognised(ending: Ending, { destination, port, from }: TraceRequest): Asking<Ending> {
  if (ending.result === 'died') return ending;
  const { source, sourcePort } = innermost(ending.state);
  const space = yield* spaceOf(ending.space);
  if (source !== destination || sourcePort !== port)
    return died(
      space,
      ending.state,
      `the answer comes from ${endText(source, sourcePort)}, and ${endText(destination, port)} was asked: it is refused`,
      'the answer does not pass where its address was translated: is br_netfilter on (sysctl net.bridge.bridge-nf-call-iptables)?',
    );
  if (from.kind === 'inside' && ending.space !== from.space)
    return died(space, ending.state, `the answer ends at ${ending.where}, which did not ask`);
  return ending;
}

/** What a walk has found. */
export interface Walked {
  /** The source that the packet had when it was sent; empty where there is no route that would give it one. */
  readonly source: string;
  readonly ways: readonly Way[];
}

/** The source that the kernel gives a packet whose sender has named none. */
function* sourceOf({ from }: TraceRequest, packet: Packet): Asking<string> {
  if (packet.source !== '' || from.kind !== 'inside') return packet.source;
  const route = yield* routeFor(from.space, packet);
  return isRefused(route) ? '' : (route.source ?? '');
}

/** Every way of a packet, with the way back of each that arrives. */
export function* walk(request: TraceRequest): Asking<Walked> {
  const { from } = request;
  const first = firstPacket(request);
  const source = yield* sourceOf(request, first);
  const start = begin({ ...first, source });
  const endings = from.kind === 'inside' ? yield* ways.output(from.space, start) : yield* arrive(start);
  const found: Way[] = [];
  for (const ending of endings) {
    const there = yield* routed(yield* translated(ending, request), request);
    found.push({ there, back: there.result === 'died' ? [] : yield* back(there, request) });
  }
  return { source, ways: found };
}
