import type { NetworkMatch, TrafficChain, TrafficRule } from './rules.ts';

function match(flag: string, wanted: NetworkMatch | undefined): string[] {
  if (wanted === undefined) return [];
  return [...(wanted.not === true ? ['!'] : []), flag, wanted.network.text];
}

const targets = { return: 'RETURN', accept: 'ACCEPT', masquerade: 'MASQUERADE' } as const;

function ruleText(chain: TrafficChain, rule: TrafficRule, randomFully: boolean): string {
  const mark = rule.mark === undefined ? [] : ['-m', 'mark', '--mark', hexMark(rule.mark)];
  const random = rule.verdict === 'masquerade' && randomFully ? ['--random-fully'] : [];
  return [
    '-A',
    chain.name,
    ...match('-s', rule.source),
    ...match('-d', rule.destination),
    ...mark,
    ...comment(chain),
    '-j',
    targets[rule.verdict],
    ...random,
  ].join(' ');
}

const hexMark = (mark: number): string => `0x${mark.toString(16)}/0x${mark.toString(16)}`;
const comment = (chain: TrafficChain): string[] => ['-m', 'comment', '--comment', `"${chain.comment}"`];

const jump = (chain: TrafficChain): string =>
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
  readonly parent: readonly string[];
}

const isRule = (line: string): boolean => line.startsWith('-A ');
const refusesAll = (line: string): boolean =>
  /^-A \S+ (-m comment --comment ("[^"]*"|\S+) )?-j (DROP|REJECT)\b/.test(line);

/** Where our jump must stand: once, and before a rule that refuses everything. */
function jumpPosition(chain: TrafficChain, parent: readonly string[]): { right: boolean; insertAt: number } {
  const rules = parent.filter(isRule);
  const ours = rules.flatMap((line, index) => (line.endsWith(` -j ${chain.name}`) ? [index] : []));
  const others = rules.filter((line) => !line.endsWith(` -j ${chain.name}`));
  const wall = others.findIndex(refusesAll);
  const firstWall = rules.findIndex(refusesAll);
  const right = ours.length === 1 && (firstWall < 0 || ours[0]! < firstWall);
  return { right, insertAt: wall < 0 ? others.length : wall };
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
  const position = jumpPosition(chain, standing.parent);
  if (rulesRight && position.right) return undefined;
  if (!rulesRight) lines.push(`:${chain.name} - [0:0]`, ...wanted);
  if (!position.right) {
    const insert = jump(chain).replace(/^-A (\S+)/, `-I $1 ${position.insertAt + 1}`);
    lines.push(...removeJumps, insert);
  }
  return [...lines, 'COMMIT', ''].join('\n');
}
