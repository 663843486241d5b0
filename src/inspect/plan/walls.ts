import { parsePrefix, prefixContains, tryParseAddress } from '../../model/address.ts';

/** A packet as firewalls look at it: the first one of a conversation. */
export interface ProbePacket {
  readonly in: string | undefined;
  readonly out: string | undefined;
  readonly source: string;
  readonly destination: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** A table of filter rules as `iptables -S` prints it: policies, and rules by chain. */
export interface FilterTable {
  readonly policies: ReadonlyMap<string, string>;
  readonly chains: ReadonlyMap<string, readonly string[]>;
}

export function parseFilterTable(text: string): FilterTable {
  const policies = new Map<string, string>();
  const chains = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    if (line.startsWith('-P ') || line.startsWith('-N ')) {
      const [kind, name = '', policy = ''] = line.split(' ');
      chains.set(name, []);
      if (kind === '-P') policies.set(name, policy);
    } else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3);
      chains.get(end < 0 ? line.slice(3) : line.slice(3, end))?.push(line);
    }
  }
  return { policies, chains };
}

function inNetwork(address: string, text: string): boolean {
  const parsed = tryParseAddress(address);
  if (parsed === undefined) return false;
  const prefix = parsePrefix(text.includes('/') ? text : `${text}/${parsed.family.bits}`);
  return prefix.family === parsed.family && prefixContains(prefix, parsed);
}

const deviceIs = (device: string | undefined, pattern: string): boolean =>
  pattern.endsWith('+') ? device?.startsWith(pattern.slice(0, -1)) === true : device === pattern;

function portIs(port: number, text: string): boolean {
  return text.split(',').some((range) => {
    const [first = 0, last = first] = range.split(':').map(Number);
    return port >= first && port <= last;
  });
}

type Test = (packet: ProbePacket, value: string) => boolean;

/** Matches with one value; a conversation that begins is NEW, and no other state is. */
const tests: Readonly<Record<string, Test>> = {
  '-s': ({ source }, value) => inNetwork(source, value),
  '-d': ({ destination }, value) => inNetwork(destination, value),
  '-i': (packet, value) => deviceIs(packet.in, value),
  '-o': (packet, value) => deviceIs(packet.out, value),
  '-p': ({ protocol }, value) => value === protocol || value === 'all',
  '--dport': ({ port }, value) => portIs(port, value),
  '--dports': ({ port }, value) => portIs(port, value),
  '--ctstate': (_, value) => value.split(',').includes('NEW'),
  '--state': (_, value) => value.split(',').includes('NEW'),
  // A packet that comes in has no mark yet.
  '--mark': (_, value) => Number(value.split('/')[0]) === 0,
  '--comment': () => true,
};

const modules = new Set(['comment', 'tcp', 'udp', 'conntrack', 'state', 'multiport', 'mark']);

interface ReadRule {
  /** False: the packet passes by. `perhaps`: a match decides that is not understood. */
  readonly holds: boolean | 'perhaps';
  readonly target: string | undefined;
}

function readRule(line: string, packet: ProbePacket): ReadRule {
  const words = Array.from(
    line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g),
    ([, quoted, word]) => quoted ?? word!,
  );
  let holds: ReadRule['holds'] = true;
  for (let at = 2; at < words.length; at++) {
    let word = words[at]!;
    const negated = word === '!';
    if (negated) word = words[++at] ?? '';
    if (word === '-j' || word === '-g') return { holds, target: words[at + 1] };
    if (word === '-m' && modules.has(words[at + 1] ?? '')) {
      at++;
      continue;
    }
    const test = tests[word];
    if (test === undefined) holds = 'perhaps';
    else if (test(packet, words[++at] ?? '') === negated) return { holds: false, target: undefined };
  }
  return { holds, target: undefined };
}

/** What stops the packet: the rule, or the chain's policy; undefined where nothing certainly does. */
export interface Wall {
  readonly chain: string;
  /** The rule as iptables-save prints it; undefined for the policy. */
  readonly rule: string | undefined;
}

type Outcome = Wall | 'passes' | 'returns' | 'unknown';

const DEEPEST = 20;

function walk(table: FilterTable, chain: string, packet: ProbePacket, depth: number): Outcome {
  for (const line of table.chains.get(chain) ?? []) {
    const { holds, target } = readRule(line, packet);
    if (holds === false || target === undefined) continue;
    if (holds === 'perhaps') {
      // A rule that may let it through leaves nothing certain behind it.
      if (target === 'ACCEPT') return 'unknown';
      continue;
    }
    if (target === 'DROP' || target === 'REJECT') return { chain, rule: line };
    if (target === 'ACCEPT') return 'passes';
    if (target === 'RETURN') return 'returns';
    if (!table.chains.has(target) || depth >= DEEPEST) continue;
    const inner = walk(table, target, packet, depth + 1);
    if (inner !== 'returns') return inner;
  }
  return 'returns';
}

/** Walks a packet from a built-in chain on. */
export function wallFor(table: FilterTable, chain: string, packet: ProbePacket): Wall | undefined {
  const outcome = walk(table, chain, packet, 0);
  if (typeof outcome === 'object') return outcome;
  if (outcome !== 'returns' || table.policies.get(chain) !== 'DROP') return undefined;
  return { chain, rule: undefined };
}
