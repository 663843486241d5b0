import { bothWays, type Effect, type Statement, type Verdict } from './chains.ts';
import { fraction } from './fraction.ts';
import { addressValue, type Packet } from './packet.ts';
import { type State, withPacket, withShare } from './state.ts';

const verdict = (kind: Verdict) => (): Statement => (state) => [{ kind: 'verdict', verdict: kind, state }];

const onward = (state: State): Effect[] => [{ kind: 'next', state }];

function bitsOf(text: string): { value: number; mask: number } {
  const [value = 0, mask = 0xffffffff] = text.split('/').map(Number);
  return { value, mask };
}

function setMark(words: readonly string[]): Statement {
  const [kind, text = ''] = words;
  const { value, mask } = bitsOf(text);
  return (state) => {
    const { mark } = state.packet;
    const cleared = kind === '--set-mark' ? mark & ~(mask | value) : mark & ~mask;
    const next = kind === '--set-mark' ? cleared | value : cleared ^ value;
    return onward(next >>> 0 === mark ? state : withPacket(state, { mark: next >>> 0 }));
  };
}

function connectionMark(words: readonly string[]): Statement {
  const option = (name: string): number => {
    const at = words.indexOf(name);
    return at < 0 ? 0xffffffff : Number(words[at + 1]);
  };
  const [kind, text = ''] = words;
  return (state) => {
    const { mark, tracking } = state.packet;
    if (tracking === undefined) return onward(state);
    const old = tracking.mark;
    if (kind === '--restore-mark')
      return onward(
        withPacket(state, { mark: ((mark & ~option('--nfmask')) ^ (old & option('--ctmask'))) >>> 0 }),
      );
    const { value, mask } = bitsOf(text);
    const next =
      kind === '--save-mark'
        ? (old & ~option('--ctmask')) ^ (mark & option('--nfmask'))
        : (old & ~mask) ^ value;
    return onward(withPacket(state, { tracking: { ...tracking, mark: next >>> 0 } }));
  };
}

/** `10.0.0.1-10.0.0.4:80-90`, `[fd00::1]:80`, `:80`. */
function translationOf(text: string): { address?: string; last?: string; port?: number; lastPort?: number } {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*(?::[^:[\]]*:[^[\]]*)?))(?::(\d+)(?:-(\d+))?)?/.exec(text);
  const [address, last] = (match?.[1] ?? match?.[2] ?? '').split('-');
  return {
    ...(address === '' || address === undefined ? {} : { address }),
    ...(last === undefined ? {} : { last }),
    ...(match?.[3] === undefined ? {} : { port: Number(match[3]) }),
    ...(match?.[4] === undefined ? {} : { lastPort: Number(match[4]) }),
  };
}

/** How many addresses of a range are told one by one. */
const MOST_ADDRESSES = 32n;

export function destinations(first: string, last: string | undefined): string[] {
  if (last === undefined || first.includes(':')) return [first];
  const [low, high] = [addressValue(first), addressValue(last)];
  if (high < low || high - low >= MOST_ADDRESSES) return [first];
  return Array.from({ length: Number(high - low) + 1 }, (_, index) => {
    const value = Number(low) + index;
    return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
  });
}

/** The packet with its destination translated. */
export function redirected(state: State, destination: string, port: number | undefined): State {
  const { packet } = state;
  const change: Partial<Packet> = { destination, port: port ?? packet.port };
  const tracking = packet.tracking && { ...packet.tracking, dnat: true };
  return withPacket(state, { ...change, tracking });
}

/** The packet with its source translated. Which port it gets is the kernel's choice unless a rule names one. */
export function masked(state: State, source: string, sourcePort: number | undefined): State {
  const tracking = state.packet.tracking && { ...state.packet.tracking, snat: true };
  return withPacket(state, { source, sourcePort, tracking });
}

function optionOf(words: readonly string[], name: string): string | undefined {
  const at = words.indexOf(name);
  return at < 0 ? undefined : words[at + 1];
}

function translateDestination(words: readonly string[]): Statement {
  const { address, last, port, lastPort } = translationOf(optionOf(words, '--to-destination') ?? '');
  return (state) => {
    const to = destinations(address ?? state.packet.destination, last);
    const wanted = lastPort === undefined ? port : undefined;
    return to.map((one) => ({
      kind: 'verdict' as const,
      verdict: 'accept' as const,
      state: withShare(redirected(state, one, wanted), fraction(1, to.length)),
    }));
  };
}

function translateSource(words: readonly string[]): Statement {
  const { address, port, lastPort } = translationOf(optionOf(words, '--to-source') ?? '');
  return (state) => [
    {
      kind: 'verdict',
      verdict: 'accept',
      state: masked(state, address ?? state.packet.source, lastPort === undefined ? port : undefined),
    },
  ];
}

const masquerade: Statement = (state, { masqueradeAddress }) => {
  const source = masqueradeAddress(state.packet.outDevice, state.packet);
  // A device without an address: the kernel drops what it cannot masquerade.
  if (source === undefined) return [{ kind: 'verdict', verdict: 'drop', state }];
  return [{ kind: 'verdict', verdict: 'accept', state: masked(state, source, undefined) }];
};

/** To the node itself: to the address of the device that it came in by, on loopback where it sent it itself. */
function redirect(words: readonly string[]): Statement {
  const ports = optionOf(words, '--to-ports')?.split('-').map(Number);
  const port = ports?.length === 1 ? ports[0] : undefined;
  return (state, { masqueradeAddress }) => {
    const { inDevice, family } = state.packet;
    const loopback = family.name === 'ipv4' ? '127.0.0.1' : '::1';
    const to = inDevice === undefined ? loopback : masqueradeAddress(inDevice, state.packet);
    if (to === undefined) return [{ kind: 'verdict', verdict: 'drop', state }];
    return [{ kind: 'verdict', verdict: 'accept', state: redirected(state, to, port) }];
  };
}

export const notrack: Statement = (state) =>
  onward(
    withPacket(state, {
      tracking: {
        state: 'untracked',
        direction: 'original',
        dnat: false,
        snat: false,
        mark: 0,
        original: state.packet,
      },
    }),
  );

/** What leaves the packet as it is, for all that the way it takes depends on. */
const idle = new Set(
  'LOG NFLOG TRACE TCPMSS CLASSIFY CHECKSUM TTL HL DSCP TOS ECN AUDIT SECMARK CONNSECMARK SET TCPOPTSTRIP'.split(
    ' ',
  ),
);

const targets: Readonly<Record<string, (words: readonly string[]) => Statement>> = {
  ACCEPT: verdict('accept'),
  DROP: verdict('drop'),
  REJECT: verdict('reject'),
  RETURN: () => (state) => [{ kind: 'return', state }],
  MARK: setMark,
  CONNMARK: connectionMark,
  DNAT: translateDestination,
  SNAT: translateSource,
  MASQUERADE: () => masquerade,
  REDIRECT: redirect,
  NOTRACK: () => notrack,
  CT: (words) => (words.includes('--notrack') ? notrack : onward),
};

/** @param words what stands behind the target's name; undefined for a target that is no chain and nobody knows */
export function targetStatement(
  name: string,
  words: readonly string[],
  isChain: (name: string) => boolean,
): Statement {
  if (isChain(name)) return (state) => [{ kind: 'jump', chain: name, state }];
  if (idle.has(name)) return onward;
  const make = targets[name];
  if (make !== undefined) return make(words);
  return (state) =>
    bothWays(state, `${name} lets it pass`).map((effect) =>
      effect.kind === 'next' ? effect : { kind: 'verdict', verdict: 'drop', state: effect.state },
    );
}
