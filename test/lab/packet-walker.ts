/** Walks a new connection's first packet through rules and says everywhere it may end. */
import { parseAddress } from '../../src/model/address.ts';
import type { SimulatedIptables, SimulatedTable } from './simulated-iptables.ts';

export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  /** The node itself sends it. */
  readonly fromNode: boolean;
}

/** Where a packet ends: `ADDRESS:PORT`, with ` masqueraded` behind it; or `dropped`, `rejected`. */
export type Ending = string;

interface State {
  packet: Packet;
  mark: number;
  translated: boolean;
  masqueraded: boolean;
  /** Where it was sent to. */
  readonly original: string;
}

interface World {
  readonly rules: SimulatedIptables;
  /** The node's own addresses. */
  readonly local: ReadonlySet<string>;
  /** The policy of FORWARD; ACCEPT unless given. */
  readonly forwards?: 'ACCEPT' | 'DROP';
}

/** What a chain leads to: a verdict, or falling off its end (undefined). */
interface Outcome {
  readonly state: State;
  readonly verdict: 'accept' | 'drop' | 'reject' | undefined;
}

/** Numbers of the texts seen so far: the same few thousand come again and again. */
const values = new Map<string, bigint>();

function numberOf(address: string): bigint {
  let value = values.get(address);
  if (value === undefined) {
    value = parseAddress(address).value;
    values.set(address, value);
  }
  return value;
}

/** The bits of a mask written as a length or as an address. */
function maskOf(mask: string, bits: number): bigint {
  const all = (1n << BigInt(bits)) - 1n;
  return /^\d+$/.test(mask) ? (all << BigInt(bits - Number(mask))) & all : numberOf(mask);
}

interface Network {
  readonly bits: bigint;
  readonly value: bigint;
  readonly v6: boolean;
}

/** Likewise of networks. */
const networks = new Map<string, Network>();

function networkOf(text: string): Network {
  let network = networks.get(text);
  if (network === undefined) {
    const slash = text.indexOf('/');
    const v6 = text.includes(':');
    const bits = maskOf(text.slice(slash + 1), v6 ? 128 : 32);
    network = { bits, value: numberOf(text.slice(0, slash)) & bits, v6 };
    networks.set(text, network);
  }
  return network;
}

export function inNetwork(address: string, network: string): boolean {
  // Most rules are about one address.
  if (network.endsWith('/32') || network.endsWith('/128')) return network.startsWith(`${address}/`);
  const { bits, value, v6 } = networkOf(network);
  return address.includes(':') === v6 && (numberOf(address) & bits) === value;
}

/** The words of the rules seen so far. */
const wordsOf = new Map<string, readonly string[]>();
const MOST_RULES = 20_000;

function ruleWords(rule: string): readonly string[] {
  let words = wordsOf.get(rule);
  if (words === undefined) {
    if (wordsOf.size >= MOST_RULES) wordsOf.clear();
    words = rule.match(/"[^"]*"|\S+/g) ?? [];
    wordsOf.set(rule, words);
  }
  return words;
}

/** 'maybe' where chance or history decides: both ways are walked. */
type Match = boolean | 'maybe';

class RuleMatch {
  private readonly words: readonly string[];
  private at = 0;
  target: string | undefined;
  argument = '';

  constructor(rule: string) {
    this.words = ruleWords(rule);
  }

  matches(state: State, world: World): Match {
    let result: Match = true;
    while (this.at < this.words.length) {
      const negated = this.words[this.at] === '!';
      if (negated) this.at++;
      const found = this.one(state, world);
      const match = found === 'maybe' ? found : found !== negated;
      if (match === false) return false;
      if (match === 'maybe') result = 'maybe';
    }
    return result;
  }

  private next(): string {
    return this.words[this.at++] ?? '';
  }

  private one(state: State, { local }: World): Match {
    const { packet } = state;
    const option = this.next();
    switch (option) {
      case '-s':
        return inNetwork(packet.source, this.next());
      case '-d':
        return inNetwork(packet.destination, this.next());
      case '-i':
        return this.next() === 'lo' && packet.fromNode;
      case '--bytecode':
        // The only program there is compares source and destination.
        this.next();
        return packet.source === packet.destination;
      case '--nfacct-name':
        this.next();
        return true;
      case '--ctorigdst':
        return inNetwork(state.original, this.next());
      case '-p':
        return packet.protocol === this.next();
      case '--dport': {
        const [first, last = first] = this.next().split(':').map(Number);
        return packet.port >= first! && packet.port <= last!;
      }
      case '--dst-type':
        return this.next() === 'LOCAL' && local.has(packet.destination);
      case '--src-type':
        return this.next() === 'LOCAL' && local.has(packet.source);
      case '--mark': {
        const [value, mask] = this.next().split('/').map(Number);
        return (state.mark & mask!) === value;
      }
      case '--ctstate':
        return this.next()
          .split(',')
          .some((name) => name === 'NEW' || (name === 'DNAT' && state.translated));
      case '-m':
        return this.module(this.next());
      case '-j':
        this.target = this.next();
        this.argument = this.words.slice(this.at).join(' ');
        this.at = this.words.length;
        return true;
      default:
        throw new Error(`the packet walker does not know ${option} in ${this.words.join(' ')}`);
    }
  }

  private module(name: string): Match {
    if (name === 'comment') {
      this.at += 2;
      return true;
    }
    if (name === 'statistic') {
      this.at += 4;
      return 'maybe';
    }
    if (name === 'recent') {
      const update = this.words[this.at] === '--update';
      while (this.at < this.words.length && !/^-[jm]$/.test(this.words[this.at]!)) this.at++;
      return update ? 'maybe' : true;
    }
    return true;
  }
}

function setMark(mark: number, argument: string): number {
  const [value, mask] = argument.replace('--set-xmark ', '').split('/').map(Number);
  return (mark & ~mask!) ^ value!;
}

function destination(argument: string): { address: string; port: number } {
  const match = /--to-destination (?:\[(.*)\]|([\d.]+)):(\d+)/.exec(argument)!;
  return { address: match[1] ?? match[2]!, port: Number(match[3]) };
}

function act(rule: RuleMatch, state: State, table: SimulatedTable, world: World): Outcome[] {
  const { target, argument } = rule;
  switch (target) {
    case undefined:
      return [{ state, verdict: undefined }];
    case 'ACCEPT':
      return [{ state, verdict: 'accept' }];
    case 'DROP':
      return [{ state, verdict: 'drop' }];
    case 'REJECT':
      return [{ state, verdict: 'reject' }];
    case 'MARK':
      return [{ state: { ...state, mark: setMark(state.mark, argument) }, verdict: undefined }];
    case 'MASQUERADE':
      return [{ state: { ...state, masqueraded: true }, verdict: 'accept' }];
    case 'DNAT': {
      const { address, port } = destination(argument);
      const packet = { ...state.packet, destination: address, port };
      return [{ state: { ...state, packet, translated: true }, verdict: 'accept' }];
    }
    default:
      return walkChain(target, state, table, world);
  }
}

function walkChain(chain: string, start: State, table: SimulatedTable, world: World): Outcome[] {
  let open: State[] = [start];
  const ended: Outcome[] = [];
  for (const text of table.get(chain) ?? []) {
    const still: State[] = [];
    for (const state of open) {
      const rule = new RuleMatch(text);
      const match = rule.matches(state, world);
      if (match !== true) still.push(state);
      if (match === false) continue;
      if (rule.target === 'RETURN') ended.push({ state, verdict: undefined });
      else {
        for (const outcome of act(rule, state, table, world)) {
          if (outcome.verdict === undefined) still.push(outcome.state);
          else ended.push(outcome);
        }
      }
    }
    open = still;
    if (open.length === 0) break;
  }
  return [...ended, ...open.map((state) => ({ state, verdict: undefined }))];
}

/** All the places a new connection's first packet may end, sorted; one entry each. */
export function walk(packet: Packet, world: World): Ending[] {
  const { nat, filter } = world.rules.tables as { nat: SimulatedTable; filter: SimulatedTable };
  const endings = new Set<Ending>();
  const original = packet.destination;
  const start: State = { packet, mark: 0, translated: false, masqueraded: false, original };
  for (const { state } of walkChain(packet.fromNode ? 'OUTPUT' : 'PREROUTING', start, nat, world)) {
    const local = world.local.has(state.packet.destination);
    // What the node sends to itself leaves by the loopback device and comes in again.
    const hooks = [
      ...(packet.fromNode ? ['OUTPUT'] : []),
      ...(local ? ['INPUT'] : packet.fromNode ? [] : ['FORWARD']),
    ];
    const outcomes = hooks.flatMap((hook) => walkChain(hook, state, filter, world));
    // The first hook that says no is the last it comes to.
    const refused = outcomes.find(({ verdict }) => verdict === 'drop' || verdict === 'reject');
    const unsaid = hooks.at(-1) === 'FORWARD' && outcomes.every(({ verdict }) => verdict === undefined);
    if (refused !== undefined || (unsaid && world.forwards === 'DROP')) {
      endings.add(refused?.verdict === 'reject' ? 'rejected' : 'dropped');
      continue;
    }
    for (const last of walkChain('POSTROUTING', state, nat, world)) {
      const { destination: to, port } = last.state.packet;
      endings.add(`${to}:${port}${last.state.masqueraded ? ' masqueraded' : ''}`);
    }
  }
  return [...endings].sort();
}
