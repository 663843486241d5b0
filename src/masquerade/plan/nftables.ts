import {
  type NetworkMatch,
  nftTable,
  type TrafficChain,
  type TrafficRule,
  type TrafficRules,
  trafficChains,
} from './rules.ts';

function match(family: string, side: 'saddr' | 'daddr', wanted: NetworkMatch | undefined): string[] {
  if (wanted === undefined) return [];
  return [`${family} ${side} ${wanted.not === true ? '!= ' : ''}${wanted.network.text}`];
}

function device({ from }: TrafficRule): string[] {
  return from === undefined ? [] : [`iifname ${from.not === true ? '!= ' : ''}"${from.device}"`];
}

const tracked = {
  redirected: 'ct status dnat',
  unasked: 'ct state ! established,related ct status ! dnat',
} as const;

function ruleText(rules: TrafficRules, rule: TrafficRule): string {
  const { nft } = rules.family;
  const hex = rule.mark?.toString(16).padStart(8, '0');
  const random = rule.verdict === 'masquerade' && rules.randomFully ? ' fully-random' : '';
  return [
    ...device(rule),
    ...match(nft, 'saddr', rule.source),
    ...match(nft, 'daddr', rule.destination),
    ...(rule.udpPort === undefined ? [] : [`udp dport ${rule.udpPort}`]),
    ...(rule.tracked === undefined ? [] : [tracked[rule.tracked]]),
    ...(hex === undefined ? [] : [`meta mark & 0x${hex} == 0x${hex}`]),
    `${rule.verdict}${random}`,
  ].join(' ');
}

function chain({ nft, rules }: TrafficChain, all: TrafficRules): string[] {
  const list = rules(all);
  if (list === undefined) return [];
  const lines = list.map((rule) => `\t\t${ruleText(all, rule)}`);
  return [`\tchain ${nft.name} {`, `\t\ttype ${nft.hook}; policy accept;`, ...lines, '\t}'];
}

/**
 * flannel's table for one family, as `nft list table` prints it: chains `postrtg` and `forward`, and our guards.
 * @returns undefined when no chain is wanted
 */
export function nftTableText(rules: TrafficRules): string | undefined {
  const chains = trafficChains.map((one) => chain(one, rules)).filter((lines) => lines.length > 0);
  if (chains.length === 0) return undefined;
  const body = chains.map((lines) => lines.join('\n')).join('\n\n');
  return `table ${rules.family.nft} ${nftTable(rules.family)} {\n${body}\n}\n`;
}

/** The document that puts the table in the place of whatever has its name: one transaction. */
export function nftDocument(rules: TrafficRules): string {
  const name = `table ${rules.family.nft} ${nftTable(rules.family)}`;
  return `${name}\ndelete ${name}\n${nftTableText(rules) ?? ''}`;
}
