/** What nft's statements for translation make of a packet: each ends its chain, as the kernel has it. */
import type { Effect, Statement } from './chains.ts';
import { fraction } from './fraction.ts';
import { destinations, masked, redirected } from './iptables-targets.ts';
import { describe, evaluation, fieldsOf, type Maker, type NftContext, withValues } from './nft-effects.ts';
import type { Json, Value } from './nft-texts.ts';
import { evaluate } from './nft-values.ts';
import { type State, withShare } from './state.ts';

const accepted = (state: State): Effect => ({ kind: 'verdict', verdict: 'accept', state });

/** `addr` may lead to an address, to an address and a port, or to a range of addresses. */
function translation(
  written: Json,
  context: NftContext,
  act: (state: State, address: string, port: number | undefined) => State,
): Statement {
  const { addr = null, port = null } = fieldsOf(written);
  const { range } = fieldsOf(addr);
  const fixed = typeof port === 'number' ? port : undefined;
  if (range !== undefined) {
    const [first = '', last] = range as readonly string[];
    const all = destinations(first, last);
    return (state) => all.map((one) => accepted(withShare(act(state, one, fixed), fraction(1, all.length))));
  }
  return (state, surroundings) => {
    if (addr === null) return [accepted(act(state, '', fixed))];
    const found = evaluate(addr, evaluation(state, surroundings, context));
    return withValues(state, found, `where ${describe(addr)} leads`, (value, branch) => {
      const [address, second] = Array.isArray(value) ? (value as readonly Value[]) : [value];
      return [accepted(act(branch, String(address), second === undefined ? fixed : Number(second)))];
    });
  };
}

export const dnat: Maker = (written, context) =>
  translation(written, context, (state, address, port) =>
    redirected(state, address || state.packet.destination, port),
  );

export const snat: Maker = (written, context) =>
  translation(written, context, (state, address, port) =>
    masked(state, address || state.packet.source, port),
  );

export const masquerade: Statement = (state, { masqueradeAddress }) => {
  const source = masqueradeAddress(state.packet.outDevice, state.packet);
  if (source === undefined) return [{ kind: 'verdict', verdict: 'drop', state }];
  return [accepted(masked(state, source, undefined))];
};

export const redirect: Maker = (written) => {
  const { port } = fieldsOf(written);
  return (state, { masqueradeAddress }) => {
    const { inDevice, family } = state.packet;
    const own =
      inDevice === undefined || inDevice === '' ? undefined : masqueradeAddress(inDevice, state.packet);
    const loopback = family.name === 'ipv4' ? '127.0.0.1' : '::1';
    return [accepted(redirected(state, own ?? loopback, typeof port === 'number' ? port : undefined))];
  };
};
