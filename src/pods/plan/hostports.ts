import { type Family, ipv4 } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { ruleText } from '../../model/rule-words.ts';
import { type HostPortRule, hostPortsOf, usualMarkBit } from './hostport-rules.ts';
import type { PodRecord } from './pod.ts';

/** The portmap plugin's chains: shared with it, never flushed where its own rules may stand. */
const dnatChain = 'CNI-HOSTPORT-DNAT';
const setMarkChain = 'CNI-HOSTPORT-SETMARK';
const masqueradeChain = 'CNI-HOSTPORT-MASQ';
/** Holds all our rules, and nobody else's, but for those of pods with conditions. */
export const ownChain = 'CNI-HOSTPORT-TWILL';
/** Chains of single pods: a condition may be about what their rules are about, too, so it stands in the rule before. */
const podChainPrefix = 'TWILL-HP-';
/** Where rules with conditions are written to see how iptables prints them. */
const trialChain = `${podChainPrefix}TRIAL`;

const markRule = `-A ${setMarkChain} -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000`;
const masqueradeRule = `-A ${masqueradeChain} -m mark --mark 0x2000/0x2000 -j MASQUERADE`;
const ownJump = `-A ${dnatChain} -j ${ownChain}`;
/** Ours come before those of pods that another chain of plugins made: where two claim a port, ours is the newer. */
const ownJumpFirst = `-I ${dnatChain} 1 -j ${ownChain}`;

/** How packets get to the portmap plugin's chains, as that plugin writes it. */
const entryRules = [
  `-A PREROUTING -m addrtype --dst-type LOCAL -j ${dnatChain}`,
  `-A OUTPUT -m addrtype --dst-type LOCAL -j ${dnatChain}`,
  `-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j ${masqueradeChain}`,
];

/** The shared chain sets the usual bit; another one is set by the rule itself. */
function markTarget(bit: number): string {
  if (bit === usualMarkBit) return setMarkChain;
  const mark = `0x${(2 ** bit).toString(16)}`;
  return `MARK --set-xmark ${mark}/${mark}`;
}

/** The rules that must stand around these of ours: other marks want to be masqueraded, too. */
export function requiredAround(rules: readonly string[]): readonly string[] {
  const marks = new Set(rules.flatMap((rule) => / -j MARK --set-xmark (\S+)$/.exec(rule)?.[1] ?? []));
  const masquerade = [...marks].map((mark) => `-A ${masqueradeChain} -m mark --mark ${mark} -j MASQUERADE`);
  return [...requiredRules, ...masquerade];
}

/** What must stand around our rules whatever they are. */
export const requiredRules: readonly string[] = [...entryRules, ownJump, markRule, masqueradeRule];

/** The chains that these are in, and our own. */
export const concernedChains: readonly string[] = [
  ...new Set([...requiredRules.map((rule) => rule.split(' ')[1]!), ownChain]),
];

/** The chain that a rule is in because of its pod's conditions. */
function chainOf({ conditions, hostVeth }: HostPortRule): string {
  return conditions.length === 0 ? ownChain : `${podChainPrefix}${hostVeth}`;
}

function ruleTexts(family: Family, rule: HostPortRule): string[] {
  const { protocol, hostPort, target, masquerade, markBit } = rule;
  const destination = rule.destination === undefined ? '' : ` -d ${rule.destination}/${family.bits}`;
  const ports = `-p ${protocol} -m ${protocol} --dport ${hostPort}`;
  const comment = `-m comment --comment ${rule.containerId.slice(0, 64)}`;
  const address = family === ipv4 ? target.address : `[${target.address}]`;
  const chain = chainOf(rule);
  const conditions = ` ${ruleText(rule.conditions)}`;
  return [
    ...(chain === ownChain ? [] : [`-A ${ownChain} ${ports}${conditions} ${comment} -j ${chain}`]),
    ...masquerade.map((source) => {
      const from = source === undefined ? '' : ` -s ${source}`;
      return `-A ${chain}${from}${destination} ${ports} ${comment} -j ${markTarget(markBit)}`;
    }),
    `-A ${chain}${destination} ${ports} ${comment} -j DNAT --to-destination ${address}:${target.port}`,
  ];
}

/** The rules of our chains, as iptables-save prints them, but for those with conditions. */
export function hostPortRules(records: readonly PodRecord[], family: Family): string[] {
  return hostPortsOf(records, family).flatMap((rule) => ruleTexts(family, rule));
}

const conditional = new RegExp(`^-A ${ownChain} (.*) -j (${podChainPrefix}\\S+)$`);

/** Whether a rule has conditions: only iptables knows how it prints it then. */
export function hasConditions(rule: string): boolean {
  return conditional.test(rule);
}

/** What to write, read and take away again to see how iptables prints rules with conditions. */
export function trialOf(rules: readonly string[]): {
  readonly chain: string;
  readonly write: string;
  readonly remove: string;
  /** @param lines the chain as `iptables -S` prints it @throws TwillError `invalid` when they are not one rule each */
  printed(lines: readonly string[]): string[];
} {
  const tried = rules.map((rule) => rule.replace(conditional, `-A ${trialChain} $1 -j RETURN`));
  const head = `*nat\n:${trialChain} - [0:0]\n`;
  return {
    chain: trialChain,
    write: `${head}${tried.join('\n')}\nCOMMIT\n`,
    remove: `${head}-X ${trialChain}\nCOMMIT\n`,
    printed: (lines) => {
      const bodies = lines.flatMap((line) => /^-A \S+ (.*) -j RETURN$/.exec(line)?.[1] ?? []);
      // Several addresses after one -s or -d are as many rules; so are those of a host's name.
      if (bodies.length !== rules.length)
        throw new TwillError(
          'invalid',
          `the conditions of ${rules.length} make ${bodies.length} rules: give one address to -s and -d, or the match set`,
        );
      return rules.map((rule, at) => `-A ${ownChain} ${bodies[at]} -j ${conditional.exec(rule)?.[2]}`);
    },
  };
}

export function isOwn(chain: string): boolean {
  return chain === ownChain || chain.startsWith(podChainPrefix);
}

/** Rules by their chains; ours is among these though it be empty. */
function byChain(rules: readonly string[]): Map<string, string[]> {
  const chains = new Map<string, string[]>([[ownChain, []]]);
  for (const rule of rules) {
    const chain = rule.split(' ', 2)[1]!;
    const own = chains.get(chain);
    if (own === undefined) chains.set(chain, [rule]);
    else own.push(rule);
  }
  return chains;
}

/** The chains that rules are in beside our own. */
export function podChains(rules: readonly string[]): string[] {
  return [...byChain(rules).keys()].filter((chain) => chain !== ownChain);
}

const declared = (chain: string): string => `:${chain} - [0:0]`;

/**
 * The document that replaces our rules where everything else is known to stand.
 * @param before the rules that stand
 */
export function replaceDocument(rules: readonly string[], before: readonly string[] = []): string {
  const chains = [ownChain, ...podChains(rules)];
  const gone = podChains(before).filter((chain) => !chains.includes(chain));
  return [
    '*nat',
    ...[...chains, ...gone].map(declared),
    ...rules,
    ...gone.map((chain) => `-X ${chain}`),
    'COMMIT',
    '',
  ].join('\n');
}

/**
 * What iptables-restore must be told so that our rules, and the portmap plugin's chains around them, are as they should
 * be. The document for no rules takes our chain away.
 * @param saved the nat table as iptables-save prints it
 * @returns undefined when nothing is to be done
 */
export function repairDocument(saved: string, rules: readonly string[]): string | undefined {
  const all = saved.split('\n');
  const lines = new Set(all);
  const chains = new Set(Array.from(saved.matchAll(/^:(\S+) /gm), (match) => match[1]!));
  const wanted = rules.length === 0 ? [] : [ownChain, ...podChains(rules)];
  const gone = [...chains].filter((chain) => isOwn(chain) && !wanted.includes(chain));
  if (rules.length === 0) {
    if (gone.length === 0) return undefined;
    const jump = lines.has(ownJump) ? [ownJump.replace('-A', '-D')] : [];
    return ['*nat', ...gone.map(declared), ...jump, ...gone.map((chain) => `-X ${chain}`), 'COMMIT', ''].join(
      '\n',
    );
  }
  const missing = [
    ...requiredAround(rules).filter((rule) => rule !== ownJump && !lines.has(rule)),
    ...jumpChanges(all),
  ];
  if (missing.length === 0 && gone.length === 0 && standAsWanted(all, rules)) return undefined;
  const shared = [dnatChain, setMarkChain, masqueradeChain].filter((chain) => !chains.has(chain));
  const header = [...shared, ...wanted, ...gone].map(declared);
  return ['*nat', ...header, ...missing, ...rules, ...gone.map((chain) => `-X ${chain}`), 'COMMIT', ''].join(
    '\n',
  );
}

/** Whether each chain of ours has its rules, in their order. */
function standAsWanted(lines: readonly string[], rules: readonly string[]): boolean {
  return [...byChain(rules)].every(([chain, own]) => {
    const standing = lines.filter((line) => line.startsWith(`-A ${chain} `));
    return standing.join('\n') === own.join('\n');
  });
}

/** What puts our jump at the first place of its chain. */
function jumpChanges(lines: readonly string[]): string[] {
  const standing = lines.filter((line) => line.startsWith(`-A ${dnatChain} `));
  if (standing[0] === ownJump) return [];
  return [...(standing.includes(ownJump) ? [ownJump.replace('-A', '-D')] : []), ownJumpFirst];
}

/** The chains that {@link looksWhole} is about, beside those of single pods. */
export const entryChains = ['PREROUTING', dnatChain, ownChain] as const;

/**
 * Whether our rules stand, and a packet's way to them: what a flush or a firewall's reload takes away.
 * @param lines these chains as `iptables -S` prints them
 */
export function looksWhole(lines: readonly string[], rules: readonly string[]): boolean {
  const way = entryRules.filter((rule) => rule.startsWith('-A PREROUTING '));
  const whole = way.every((rule) => lines.includes(rule)) && jumpChanges(lines).length === 0;
  return whole && standAsWanted(lines, rules);
}

/**
 * The document that takes all chains of host ports away that are ours, and the portmap plugin's where none of its own is
 * left in them.
 * @param saved the nat table as iptables-save prints it
 * @returns undefined when there is nothing of it
 */
export function hostPortRemoval(saved: string): string | undefined {
  const lines = saved.split('\n');
  const chains = lines.flatMap((line) => /^:(\S+) /.exec(line)?.[1] ?? []);
  const own = chains.filter(isOwn);
  const foreign = lines.some((line) => line.startsWith(`-A ${dnatChain} `) && line !== ownJump);
  const shared = foreign
    ? []
    : [dnatChain, setMarkChain, masqueradeChain].filter((name) => chains.includes(name));
  const gone = [...own, ...shared];
  if (gone.length === 0) return undefined;
  const jumps = lines
    .filter((line) => line.startsWith('-A ') && gone.some((name) => line.endsWith(` -j ${name}`)))
    .filter((line) => !gone.includes(line.split(' ')[1]!))
    .map((line) => line.replace('-A', '-D'));
  return ['*nat', ...gone.map(declared), ...jumps, ...gone.map((name) => `-X ${name}`), 'COMMIT', ''].join(
    '\n',
  );
}
