import { parseProgram, takes } from './bpf.ts';
import { type Effect, type Match, matching, type Statement } from './chains.ts';
import { fraction, rest } from './fraction.ts';
import { addressValue, isWithin, matchesDevice, type Packet, parseMasked } from './packet.ts';
import { protocolNumbers } from './protocols.ts';
import type { RuleWords } from './rule-words.ts';
import { type State, withShare } from './state.ts';

/** Reads the words of one match after its name. `negated`: a `!` stood before it. */
type Reader = (words: RuleWords, negated: boolean) => Statement;

/** A match that looks at nothing but the packet. */
function packetMatch(read: (words: RuleWords) => (packet: Packet) => Match): Reader {
  return (words, negated) => {
    const holds = read(words);
    return matching(({ packet }) => turned(holds(packet), negated));
  };
}

function turned(match: Match, negated: boolean): Match {
  if (typeof match === 'object') return { ...match, negated };
  return match !== negated;
}

/** `80`, `1:1024`, and lists of them with commas. */
function portMatch(ports: (packet: Packet) => readonly (number | undefined)[], what: string): Reader {
  return packetMatch((words) => {
    const text = words.next();
    const ranges = text.split(',').map((range) => {
      const [first, last = first] = range.split(':').map(Number);
      return { first: first!, last: last! };
    });
    const holds = (port: number): boolean => ranges.some(({ first, last }) => port >= first && port <= last);
    return (packet) => {
      const given = ports(packet);
      if (given.some((port) => port !== undefined && holds(port))) return true;
      return given.includes(undefined) ? { unknown: `the ${what} is ${text}` } : false;
    };
  });
}

function addressMatch(side: 'source' | 'destination'): Reader {
  return packetMatch((words) => {
    const network = parseMasked(words.next());
    return (packet) => isWithin(packet[side], network);
  });
}

function rangeMatch(side: 'source' | 'destination'): Reader {
  return packetMatch((words) => {
    const [first, last = first] = words.next().split('-');
    const [low, high] = [addressValue(first!), addressValue(last!)];
    return (packet) => addressValue(packet[side]) >= low && addressValue(packet[side]) <= high;
  });
}

function deviceMatch(device: (packet: Packet) => string | undefined): Reader {
  return packetMatch((words) => {
    const pattern = words.next();
    return (packet) => matchesDevice(device(packet), pattern);
  });
}

/** The names of ctstate that hold for a packet. */
export function trackingNames({ tracking }: Packet): string[] {
  if (tracking === undefined) return ['INVALID'];
  const state = tracking.state.toUpperCase();
  return [state, ...(tracking.dnat ? ['DNAT'] : []), ...(tracking.snat ? ['SNAT'] : [])];
}

const stateMatch = packetMatch((words) => {
  const wanted = words.next().split(',');
  return (packet) => trackingNames(packet).some((name) => wanted.includes(name));
});

const original = (packet: Packet): Packet => ({ ...packet, ...packet.tracking?.original });

const originalAddress = (side: 'source' | 'destination'): Reader =>
  packetMatch((words) => {
    const network = parseMasked(words.next());
    return (packet) => packet.tracking !== undefined && isWithin(packet.tracking.original[side], network);
  });

function bits(text: string): { value: number; mask: number } {
  const [value = 0, mask = 0xffffffff] = text.split('/').map(Number);
  return { value: value >>> 0, mask: mask >>> 0 };
}

function markMatch(mark: (packet: Packet) => number): Reader {
  return packetMatch((words) => {
    const wanted = bits(words.next());
    return (packet) => (mark(packet) & wanted.mask) >>> 0 === wanted.value;
  });
}

function typeMatch(side: 'source' | 'destination'): Reader {
  return (words, negated) => {
    const wanted = words.next().split(',');
    return matching((state, { addressType }) => wanted.includes(addressType(state.packet[side])) !== negated);
  };
}

function flag(holds: (packet: Packet) => Match): Reader {
  return packetMatch(() => holds);
}

/** One way in so many: the kernel keeps 31 bits of the probability. */
function statistic(words: RuleWords): Statement {
  let share = fraction(1, 1);
  let negated = false;
  for (;;) {
    if (words.take('!')) negated = true;
    else if (words.take('--mode')) words.next();
    else if (words.take('--probability'))
      share = fraction(Math.round(Number(words.next()) * 0x8000_0000), 0x8000_0000);
    else if (words.take('--every')) share = fraction(1, Number(words.next()));
    else if (words.take('--packet')) words.next();
    else break;
  }
  const [yes, no] = negated ? [rest(share), share] : [share, rest(share)];
  const effects = (state: State): Effect[] => [
    ...(yes.n === 0n ? [] : [{ kind: 'next' as const, state: withShare(state, yes) }]),
    ...(no.n === 0n ? [] : [{ kind: 'skip' as const, state: withShare(state, no) }]),
  ];
  return effects;
}

/** Whether the kernel remembers a client depends on when it came: where it does not hold it at all, it is certain. */
function recent(words: RuleWords, before: boolean): Statement {
  const options = words.unknown();
  const negated = before !== options.includes('!');
  const list = options[options.indexOf('--name') + 1] ?? 'DEFAULT';
  if (options.includes('--set')) return matching(() => !negated);
  const side = options.includes('--rdest') ? 'destination' : 'source';
  return matching(({ packet }, surroundings) => {
    const held = surroundings.recent(list);
    if (held !== undefined && !held.includes(packet[side])) return negated;
    return turned({ unknown: `${packet[side]} was here lately (list ${list})` }, negated);
  });
}

function setMatch(words: RuleWords, negated: boolean): Statement {
  const [name, written] = [words.next(), words.next()];
  const counted = words.unknown();
  const [first, second, third] = written
    .split(',')
    .map((side) => (side === 'src' ? 'source' : 'destination'));
  return matching(({ packet }, { ipset }) => {
    const port = second === 'source' ? packet.sourcePort : packet.port;
    const entry =
      second === undefined ? packet[first!] : `${packet[first!]},${packet.protocol}:${port ?? 'any'}`;
    // Without the port nobody can be asked, nor about sets of more than that, or what their counters say.
    const isTold =
      third === undefined && counted.length === 0 && (second === undefined || port !== undefined);
    const found = isTold ? ipset(name, entry) : undefined;
    const what = [`ipset ${name} has ${entry}`, ...counted].join(' ');
    return turned(found ?? { unknown: what }, negated);
  });
}

/** What is the same by several names. */
const destinationPort = portMatch((packet) => [packet.port], 'destination port');
const sourcePort = portMatch((packet) => [packet.sourcePort], 'source port');

export const options: Readonly<Record<string, Reader>> = {
  '-s': addressMatch('source'),
  '-d': addressMatch('destination'),
  '-p': packetMatch((words) => {
    const wanted = words.next();
    return ({ protocol }) => wanted === 'all' || wanted === '0' || wanted === protocol;
  }),
  '-i': deviceMatch((packet) => packet.inDevice),
  '-o': deviceMatch((packet) => packet.outDevice),
  '--dport': destinationPort,
  '--dports': destinationPort,
  '--sport': sourcePort,
  '--sports': sourcePort,
  '--ports': portMatch((packet) => [packet.port, packet.sourcePort], 'source or destination port'),
  '--src-range': rangeMatch('source'),
  '--dst-range': rangeMatch('destination'),
  '--ctstate': stateMatch,
  '--state': stateMatch,
  '--ctstatus': packetMatch((words) => {
    const wanted = words.next().split(',');
    return ({ tracking }) => wanted.includes(tracking?.state === 'established' ? 'SEEN_REPLY' : 'NONE');
  }),
  '--ctdir': packetMatch((words) => {
    const wanted = words.next().toLowerCase();
    return ({ tracking }) => tracking?.direction === wanted;
  }),
  '--ctproto': packetMatch((words) => {
    const wanted = words.next();
    return ({ protocol }) => wanted === protocol || wanted === String(protocolNumbers[protocol]);
  }),
  '--ctorigsrc': originalAddress('source'),
  '--ctorigdst': originalAddress('destination'),
  '--ctorigdstport': portMatch((packet) => [original(packet).port], 'original destination port'),
  '--ctorigsrcport': portMatch((packet) => [original(packet).sourcePort], 'original source port'),
  '--mark': markMatch((packet) => packet.mark),
  '--src-type': typeMatch('source'),
  '--dst-type': typeMatch('destination'),
  '--syn': flag(({ opening, protocol }) => opening && protocol === 'tcp'),
  '--tcp-flags': packetMatch((words) => {
    const [mask, set] = [words.next().split(','), words.next().split(',')];
    const present = ({ opening }: Packet): string[] => (opening ? ['SYN'] : ['SYN', 'ACK']);
    return (packet) =>
      mask.every((one) => mask[0] === 'NONE' || present(packet).includes(one) === set.includes(one));
  }),
  '--icmp-type': packetMatch((words) => {
    words.next();
    return () => false;
  }),
  '--physdev-in': deviceMatch((packet) => packet.bridgeIn),
  '--physdev-out': deviceMatch((packet) => packet.bridgeOut),
  '--physdev-is-bridged': flag((packet) => packet.bridgeOut !== undefined),
  '--physdev-is-in': flag((packet) => packet.bridgeIn !== undefined),
  '--physdev-is-out': flag((packet) => packet.bridgeOut !== undefined),
  '--match-set': setMatch,
  '--bytecode': packetMatch((words) => {
    const text = words.next();
    const program = parseProgram(text);
    return (packet) => takes(program, packet) ?? { unknown: `the program "${text}" takes it` };
  }),
  '--nfacct-name': packetMatch((words) => {
    // It counts.
    words.next();
    return () => true;
  }),
};

/** Modules whose options are read as a whole; all others bring options of the table above. */
export const modules: Readonly<Record<string, Reader>> = {
  comment: (words) => {
    words.take('--comment');
    words.next();
    return matching(() => true);
  },
  statistic,
  recent,
  connmark: (words, negated) => {
    const isNegated = words.take('!') !== negated;
    words.take('--mark');
    return markMatch(({ tracking }) => tracking?.mark ?? 0)(words, isNegated);
  },
};
