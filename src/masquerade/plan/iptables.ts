import { refusesAll } from '../../model/rule-words.ts';
import type { NetworkMatch, TrafficChain, TrafficRule } from './rules.ts';

function match(flag: string, wanted: NetworkMatch | undefined): string[] {
  if (wanted === undefined) return [];
  return [...(wanted.not === true ? ['!'] : []), flag, wanted.network.text];
}

const targets = { return: 'RETURN', accept: 'ACCEPT', masquerade: 'MASQUERADE', drop: 'DROP' } as const;

const tracked = {
  redirected: ['-m', 'conntrack', '--ctstate', 'DNAT'],
  unasked: ['-m', 'conntrack', '!', '--ctstate', 'RELATED,ESTABLISHED,DNAT'],
} as const;

function device({ from }: TrafficRule): string[] {
  return from === undefined ? [] : [...(from.not === true ? ['!'] : []), '-i', from.device];
}

function ruleText(chain: TrafficChain, rule: TrafficRule, randomFully: boolean): string {
  const mark = rule.mark === undefined ? [] : ['-m', 'mark', '--mark', hexMark(rule.mark)];
  const random = rule.verdict === 'masquerade' && randomFully ? ['--random-fully'] : [];
  return [
    '-A',
    chain.name,
    ...match('-s', rule.source),
    ...match('-d', rule.destination),
    ...device(rule),
    ...(rule.udpPort === undefined ? [] : ['-p', 'udp', '-m', 'udp', '--dport', String(rule.udpPort)]),
    ...(rule.tracked === undefined ? [] : tracked[rule.tracked]),
    ...mark,
    ...comment(chain),
    '-j',
    targets[rule.verdict],
    ...random,
  ].join(' ');
}

const hexMark = (mark: number): string => `0x${mark.toString(16)}/0x${mark.toString(16)}`;
const comment = (chain: TrafficChain): string[] => ['-m', 'comment', '--comment', `"${chain.comment}"`];

/** The rule of the built-in chain that leads to ours, as `iptables -S` prints it. */
export const jumpRule = (chain: TrafficChain): string =>
  ['-A', chain.parent, ...comment(chain), '-j', chain.name].join(' ');

/** The chain's rules exactly as `iptables -S` prints them. */
export function chainRules(
  chain: TrafficChain,
  rules: readonly TrafficRule[],
  randomFully: boolean,
): string[] {
  return rules.map((rule) => ruleText(chain, rule, randomFully));
}

/** What stands now: lines of `iptables -S`, undefined for a chain that is not there. */
export interface StandingChain {
  readonly own: readonly string[] | undefined;
  /** Of a built-in chain that cannot be printed our jump alone, where it stands. */
  readonly parent: readonly string[];
  /** False where other rules of the built-in chain may not be shown. */
  readonly parentIsWhole?: boolean;
}

const isRule = (line: string): boolean => line.startsWith('-A ');
const accepts = (line: string): boolean => /^-A \S+ .*-j ACCEPT\b/.test(line);

/** Where our jump must stand: once, and before what would keep packets from it. */
function jumpPosition(chain: TrafficChain, standing: StandingChain): { right: boolean; insertAt: number } {
  const rules = standing.parent.filter(isRule);
  const ours = rules.flatMap((line, index) => (line.endsWith(` -j ${chain.name}`) ? [index] : []));
  const others = rules.filter((line) => !line.endsWith(` -j ${chain.name}`));
  const isWall = chain.place === 'front' ? accepts : refusesAll;
  const wall = others.findIndex(isWall);
  const firstWall = rules.findIndex(isWall);
  const right = ours.length === 1 && (firstWall < 0 || ours[0]! < firstWall);
  const atFront = chain.place === 'front' || standing.parentIsWhole === false;
  return { right, insertAt: atFront ? 0 : wall < 0 ? others.length : wall };
}

/**
 * The iptables-restore document (for --noflush) that makes the chain and the jump to it right: atomically, and without
 * touching anybody else's rules.
 * @param rules undefined: chain and jump are taken away
 * @returns undefined when everything is right already
 */
export function chainDocument(
  chain: TrafficChain,
  rules: readonly TrafficRule[] | undefined,
  randomFully: boolean,
  standing: StandingChain,
): string | undefined {
  const jumps = standing.parent.filter((line) => isRule(line) && line.endsWith(` -j ${chain.name}`));
  const removeJumps = jumps.map((line) => line.replace(/^-A/, '-D'));
  const lines = [`*${chain.table}`];
  if (rules === undefined) {
    if (standing.own === undefined) return undefined;
    lines.push(`:${chain.name} - [0:0]`, ...removeJumps, `-X ${chain.name}`);
    return [...lines, 'COMMIT', ''].join('\n');
  }
  const wanted = chainRules(chain, rules, randomFully);
  const present = standing.own?.filter(isRule);
  const rulesRight = present !== undefined && present.join('\n') === wanted.join('\n');
  const position = jumpPosition(chain, standing);
  if (rulesRight && position.right) return undefined;
  if (!rulesRight) lines.push(`:${chain.name} - [0:0]`, ...wanted);
  if (!position.right) {
    const insert = jumpRule(chain).replace(/^-A (\S+)/, `-I $1 ${position.insertAt + 1}`);
    lines.push(...removeJumps, insert);
  }
  return [...lines, 'COMMIT', ''].join('\n');
}
