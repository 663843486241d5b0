/** Packets that leave the node for where nobody waits for them. */
import { parseAddress, parsePrefix } from '../../../model/address.ts';
import { died, type Ending, spaceOf } from './journey.ts';
import { isWithin, parseMasked } from './packet.ts';
import type { Asking } from './questions.ts';
import type { TraceRequest } from './request.ts';
import { innermost, type State } from './state.ts';

/** The last route that it took. */
function lastRoute({ trail }: State): string {
  for (let at = trail; at !== undefined; at = at.before) if (at.step.kind === 'route') return at.step.text;
  return '';
}

/** A pod's address that goes the way of the rest of the world: the route to its node is missing. */
export function* routed(ending: Ending, { podNetworks = [], nodes = [] }: TraceRequest): Asking<Ending> {
  const { state } = ending;
  const { destination } = innermost(state);
  const isPods = podNetworks.some((network) => {
    const { family } = parseAddress(destination);
    return parsePrefix(network).family === family && isWithin(destination, parseMasked(network));
  });
  const { nextHop } = ending;
  if (!isPods || ending.result !== 'left' || state.carried.length > 0) return ending;
  const space = yield* spaceOf(ending.space);
  if (lastRoute(state).startsWith('default '))
    return died(
      space,
      state,
      `there is no route to the node of the pod ${destination}: it ${ending.reason} as if it were for the outside`,
      'twill routes; is the agent running?',
    );
  if (nextHop === undefined || nodes.length === 0 || nodes.includes(nextHop)) return ending;
  return died(
    space,
    state,
    `it ${ending.reason}, which is no node: a route leads the pod's address ${destination} away`,
    `twill routes; ip route get ${destination}`,
  );
}

/** What still goes to a Service's own address when it has left is nobody's. */
export function* translated(ending: Ending, { destination, isVirtual }: TraceRequest): Asking<Ending> {
  if (isVirtual !== true || ending.result !== 'left' || innermost(ending.state).destination !== destination)
    return ending;
  return died(
    yield* spaceOf(ending.space),
    ending.state,
    `no rule has translated ${destination}, which is a Service's: it ${ending.reason} and is nobody's there`,
    'is the proxy running, and do its rules stand? twill diff',
  );
}
