import { type NetworkMatch, nftTable, type TrafficRule, type TrafficRules } from './rules.ts';

function match(family: string, side: 'saddr' | 'daddr', wanted: NetworkMatch | undefined): string[] {
  if (wanted === undefined) return [];
  return [`${family} ${side} ${wanted.not === true ? '!= ' : ''}${wanted.network.text}`];
}

function ruleText(rules: TrafficRules, rule: TrafficRule): string {
  const { nft } = rules.family;
  const hex = rule.mark?.toString(16).padStart(8, '0');
  const random = rule.verdict === 'masquerade' && rules.randomFully ? ' fully-random' : '';
  return [
    ...match(nft, 'saddr', rule.source),
    ...match(nft, 'daddr', rule.destination),
    ...(hex === undefined ? [] : [`meta mark & 0x${hex} == 0x${hex}`]),
    `${rule.verdict}${random}`,
  ].join(' ');
}

function chain(
  name: string,
  hook: string,
  rules: TrafficRules,
  list: readonly TrafficRule[] | undefined,
): string[] {
  if (list === undefined) return [];
  return [`\tchain ${name} {`, `\t\t${hook}`, ...list.map((rule) => `\t\t${ruleText(rules, rule)}`), '\t}'];
}

/**
 * flannel's table for one family, as `nft list table` prints it: chains `postrtg` and `forward`.
 * @returns undefined when neither chain is wanted
 */
export function nftTableText(rules: TrafficRules): string | undefined {
  const chains = [
    chain('postrtg', 'type nat hook postrouting priority srcnat; policy accept;', rules, rules.masquerade),
    chain('forward', 'type filter hook forward priority filter; policy accept;', rules, rules.forward),
  ].filter((lines) => lines.length > 0);
  if (chains.length === 0) return undefined;
  const body = chains.map((lines) => lines.join('\n')).join('\n\n');
  return `table ${rules.family.nft} ${nftTable(rules.family)} {\n${body}\n}\n`;
}

/** The document that puts the table in the place of whatever has its name: one transaction. */
export function nftDocument(rules: TrafficRules): string {
  const name = `table ${rules.family.nft} ${nftTable(rules.family)}`;
  return `${name}\ndelete ${name}\n${nftTableText(rules) ?? ''}`;
}
