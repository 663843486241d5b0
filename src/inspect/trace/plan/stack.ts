/** A namespace's IP layer: what it sends, what comes in, and the rules on the way. */

import { isLinkLocal, makePrefix, parseAddress, prefixContains } from '../../../model/address.ts';
import type { Outcome, Surroundings } from './chains.ts';
import { type Hook, walkHook } from './hooks.ts';
import {
  deviceOf,
  died,
  type Ending,
  isRefused,
  routeFor,
  routeText,
  spaceOf,
  step,
  type Ways,
} from './journey.ts';
import type { Packet } from './packet.ts';
import {
  type Asking,
  ask,
  type Question,
  questionKey,
  type RouteFound,
  type Space,
  Unanswered,
} from './questions.ts';
import { explainInput, explainOutput } from './refusals.ts';
import { ruleDeath } from './rule-deaths.ts';
import { type State, withPacket } from './state.ts';

/** What rules ask, from the answers that there are; what is missing is thrown. */
function surroundingsOf(
  space: Space,
  answers: ReadonlyMap<string, unknown>,
  nextHop: string | undefined,
): Surroundings {
  const get = <T>(question: Question): T => {
    const key = questionKey(question);
    if (!answers.has(key)) throw new Unanswered(question);
    return answers.get(key) as T;
  };
  const about = (kind: Question['kind'], of: Question['about']): Question => ({
    kind,
    in: space.id,
    about: of,
  });
  return {
    addressType: (address) => get(about('addressType', { address })),
    element: (set, key) => get(about('element', { set, key })),
    recent: (list) => get(about('recent', { list })),
    ipset: (name, entry) => get(about('ipset', { name, entry })),
    masqueradeAddress: (device, packet) => addressFor(space, device, packet, nextHop),
  };
}

/** As inet_select_addr: an address of the device that is in the next hop's network, else its first. */
function addressFor(
  space: Space,
  name: string | undefined,
  { family }: Packet,
  nextHop: string | undefined,
): string | undefined {
  const own = (deviceOf(space, name)?.addresses ?? []).filter(
    ({ address }) => parseAddress(address).family === family && !isLinkLocal(parseAddress(address)),
  );
  const near = own.find(
    ({ address, length }) =>
      nextHop !== undefined &&
      prefixContains(makePrefix(parseAddress(address), length), parseAddress(nextHop)),
  );
  return (near ?? own[0])?.address;
}

/** All outcomes of a hook; what rules want to know is asked, and the hook walked again. */
function* outcomes(
  space: Space,
  hook: Hook,
  state: State,
  options: { nextHop?: string; again?: boolean },
): Asking<Outcome[]> {
  const rules = yield* ask('rules', space.id, { family: state.packet.family });
  const answers = new Map<string, unknown>();
  const surroundings = surroundingsOf(space, answers, options.nextHop);
  for (;;) {
    try {
      return walkHook({ where: space.name, rules, surroundings, again: options.again === true }, hook, state);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      answers.set(questionKey(error.question), yield error.question);
    }
  }
}

export function* throughHook(
  spaceId: string,
  hook: Hook,
  state: State,
  next: (state: State) => Asking<Ending[]>,
  options: { nextHop?: string; again?: boolean } = {},
): Asking<Ending[]> {
  const space = yield* spaceOf(spaceId);
  const endings: Ending[] = [];
  for (const outcome of yield* outcomes(space, hook, state, options)) {
    if (outcome.verdict === 'accept') endings.push(...(yield* next(outcome.state)));
    else endings.push(ruleDeath(space, outcome));
  }
  return endings;
}

/** A process of the namespace sends it. */
export function* output(ways: Ways, spaceId: string, start: State): Asking<Ending[]> {
  const space = yield* spaceOf(spaceId);
  const route = yield* routeFor(spaceId, start.packet);
  if (isRefused(route)) return [explainOutput(space, start, route)];
  const { packet } = start;
  const source = packet.source === '' ? (route.source ?? '') : packet.source;
  const outDevice = route.device;
  const sent = step(
    withPacket(start, { source, outDevice, inDevice: undefined, bridgeIn: undefined, bridgeOut: undefined }),
    space,
    'route',
    routeText(route),
    { device: outDevice },
  );
  return yield* throughHook(spaceId, 'output', sent, function* (state) {
    const isSame = state.packet.destination === packet.destination && state.packet.mark === packet.mark;
    if (isSame) return yield* leave(ways, space, state, route);
    const again = yield* routeFor(spaceId, state.packet);
    if (isRefused(again)) return [explainOutput(space, state, again)];
    return yield* leave(ways, space, stepRoute(space, state, again), again);
  });
}

function stepRoute(space: Space, state: State, route: RouteFound): State {
  const routed = withPacket(state, { outDevice: route.device });
  return step(routed, space, 'route', routeText(route), { device: route.device });
}

/** POSTROUTING, and on to the device; what goes to the namespace itself comes in again by loopback. */
function* leave(ways: Ways, space: Space, state: State, route: RouteFound): Asking<Ending[]> {
  const nextHop = route.gateway ?? state.packet.destination;
  const isOwn = route.type === 'local';
  const next = isOwn
    ? (out: State) => loopback(space, out)
    : (out: State) => ways.transmit(space.id, route.device, nextHop, out);
  return yield* throughHook(space.id, 'postrouting', state, next, { nextHop });
}

function* loopback(space: Space, state: State): Asking<Ending[]> {
  const arrived = withPacket(state, { inDevice: 'lo', outDevice: undefined });
  const deliverHere = (passed: State): Asking<Ending[]> => deliver(space, passed);
  const local = (passed: State): Asking<Ending[]> =>
    throughHook(space.id, 'input', passed, deliverHere, { again: true });
  return yield* throughHook(space.id, 'prerouting', arrived, local, { again: true });
}

/** It has come in by a device. */
export function* input(
  ways: Ways,
  spaceId: string,
  device: string,
  start: State,
  looked: boolean,
): Asking<Ending[]> {
  const space = yield* spaceOf(spaceId);
  const onward = (state: State): Asking<Ending[]> => routeOn(ways, space, device, state);
  if (looked) return yield* onward(start);
  const arrived = withPacket(start, { inDevice: device, outDevice: undefined, tracking: undefined });
  return yield* throughHook(spaceId, 'prerouting', arrived, onward);
}

function* routeOn(ways: Ways, space: Space, device: string, state: State): Asking<Ending[]> {
  const route = yield* routeFor(space.id, state.packet, device);
  if (isRefused(route)) return [yield* explainInput(space, state, device, route)];
  if (route.type === 'local') {
    const routed = step(state, space, 'route', routeText(route));
    return yield* throughHook(space.id, 'input', routed, (passed) => deliver(space, passed));
  }
  if (route.type !== 'unicast')
    return [
      died(space, state, `${state.packet.destination} is a ${route.type} address here: it is not sent on`),
    ];
  const isV6 = state.packet.family.name === 'ipv6';
  if (isV6 && (yield* ask('setting', space.id, { name: 'net/ipv6/conf/all/forwarding' })) === '0')
    return [
      died(
        space,
        state,
        'net.ipv6.conf.all.forwarding is 0: nothing of IPv6 is sent on',
        'sysctl -w net.ipv6.conf.all.forwarding=1',
      ),
    ];
  const routed = stepRoute(space, state, route);
  return yield* throughHook(space.id, 'forward', routed, (passed) => leave(ways, space, passed, route));
}

/** It has arrived in a namespace that has its address. */
function* deliver(space: Space, state: State): Asking<Ending[]> {
  const { family, protocol, destination, port, tracking } = state.packet;
  const tunnel = space.devices.some(({ vxlan }) => protocol === 'udp' && vxlan?.port === port);
  const isAnswer = tracking?.direction === 'reply' || !state.packet.opening;
  const listens =
    tunnel || isAnswer || port === undefined
      ? undefined
      : yield* ask('listener', space.id, { family, protocol, address: destination, port });
  const text = `nobody listens on ${protocol} port ${port}: the packet arrives and is refused`;
  const told = listens === false ? step(state, space, 'note', text) : state;
  return [{ result: 'delivered', space: space.id, where: space.name, reason: 'arrived', state: told }];
}
