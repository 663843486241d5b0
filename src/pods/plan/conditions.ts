import { ruleText, ruleWords } from '../../model/rule-words.ts';
import type { HostPortOptions } from './pod.ts';

/** The options of iptables itself that say what a packet must be like. Another `-p` than the host port's cannot match. */
const matches = new Set([
  ...['-s', '--source', '--src', '-d', '--destination', '--dst'],
  ...['-i', '--in-interface', '-o', '--out-interface', '-f', '--fragment', '-m', '--match'],
]);

/**
 * The other options of iptables itself: what they do is to no match, and some would do it in spite of the rest
 * (`--modprobe` runs a program, `--help` and `--version` end iptables-restore with status 0 before anything is written).
 */
const others = [
  ...['append', 'delete', 'check', 'insert', 'replace', 'list', 'list-rules', 'flush', 'zero', 'new-chain'],
  ...[
    'delete-chain',
    'rename-chain',
    'policy',
    'protocol',
    'jump',
    'goto',
    'table',
    'modprobe',
    'set-counters',
  ],
  ...[
    'numeric',
    'verbose',
    'exact',
    'line-numbers',
    'wait',
    'wait-interval',
    'version',
    'help',
    'ipv4',
    'ipv6',
  ],
];

/** Options of match modules that are short for one of those where their module is not named first. */
const ownedBy: Readonly<Record<string, string>> = {
  '--set': 'recent',
  '--pol': 'policy',
  '--proto': 'policy',
};

const MAX_WORDS = 64;
/** iptables-restore of older versions takes no longer ones. */
const MAX_LENGTH = 255;
/** Bytes of all words together. Of a line of 10240 and more, iptables-restore reads what is left as a line of its own. */
const MAX_BYTES = 4096;

function wordProblem(word: string, before: readonly string[]): string | undefined {
  if (word === '' || word.length > MAX_LENGTH) return `a word must have 1 to ${MAX_LENGTH} characters`;
  if (/\p{Cc}/u.test(word)) return 'a word must not hold control characters';
  if (!word.startsWith('-')) {
    const isModule = /^(-m|--match)$/.test(before.at(-1) ?? '');
    if (isModule && !/^\w+$/.test(word)) return `${word} is not the name of a match`;
    // What is left of a quota is printed, so the rule would look changed by every packet.
    return isModule && word === 'quota' ? 'the match quota cannot be kept as it was written' : undefined;
  }
  if (matches.has(word)) return undefined;
  const name = word.replace(/=.*/s, '');
  // A beginning of --match, too: what it loads would go unseen.
  if (!/^--[a-z0-9][a-z0-9-]+$/.test(name) || matches.has(name) || '--match'.startsWith(name))
    return `${word} is no option of a match; give each option and each value as a word of its own`;
  const owner = ownedBy[name];
  if (owner !== undefined && before.includes(owner)) return undefined;
  // iptables takes any beginning of an option's name for it.
  const other = others.find((one) => one.startsWith(name.slice(2)));
  return other === undefined ? undefined : `${word} (--${other}) is no match`;
}

/** Why words are no conditions on packets: whatever is not a match is none, so nothing else can come with them. */
export function conditionsProblem(words: readonly string[]): string | undefined {
  if (words.length > MAX_WORDS) return `more than ${MAX_WORDS} words`;
  for (const [index, word] of words.entries()) {
    const problem = wordProblem(word, words.slice(0, index));
    if (problem !== undefined) return problem;
  }
  const { length } = new TextEncoder().encode(ruleText(words));
  return length > MAX_BYTES ? `more than ${MAX_BYTES} bytes in one rule` : undefined;
}

const comment = ' -m comment --comment (?:"(?:[^"\\\\]|\\\\.)*"|\\S+)';
/** What such a rule of the portmap plugin has beside conditions: they come last. */
const partsOfPlugin = [/^-A \S+/, / -j \S+$/, / -p \S+/, new RegExp(comment), / -m multiport --dports \S+/];
/** And one of ours, where they come before the comment, and may be of the port's match. */
const ownParts = [
  /^-A \S+/,
  new RegExp(`${comment} -j \\S+$`),
  / -p \S+/,
  / -m (?:tcp|udp|sctp)\b/,
  / --dport \d+/,
];

/** The conditions in a rule that leads to the chain of one pod, as iptables-save prints it. */
export function conditionsOf(rule: string): readonly string[] {
  const parts = / -j CNI-DN-\S+$/.test(rule) ? partsOfPlugin : ownParts;
  return ruleWords(parts.reduce((text, part) => text.replace(part, ''), rule));
}

/** The conditions of one family. */
export function conditionsFor(bits: number, options: HostPortOptions | undefined): readonly string[] {
  return (bits === 32 ? options?.conditionsV4 : options?.conditionsV6) ?? [];
}
