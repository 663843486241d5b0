import type { Family } from '../../model/address.ts';
import { type HostPortRule, usualMarkBit } from './hostport-rules.ts';
import type { PortMapping } from './pod.ts';
import type { FoundMapping } from './portmap.ts';

/** The table of host ports, one in each family; all of it is ours. */
export const hostPortTable = 'twill-hostports';

const chain = 'hostports';

/**
 * Where packets come in. Services come before host ports, whatever either is made of: the proxy's nftables chains have
 * priority -101, both use -100 in iptables, where the proxy's jump is the first, and this is one behind.
 */
const entrances = [
  { name: 'prerouting', hook: 'type nat hook prerouting priority -99' },
  { name: 'output', hook: 'type nat hook output priority -99' },
  { name: 'postrouting', hook: 'type nat hook postrouting priority 100' },
] as const;

/** The chains that the table has. */
export const hostPortChains: ReadonlySet<string> = new Set([chain, ...entrances.map(({ name }) => name)]);

const hex = (bit: number): string => `0x${(2 ** bit).toString(16).padStart(8, '0')}`;

const bare = (network: string): string => network.replace(/\/(32|128)$/, '');

function ruleTexts(family: Family, rule: HostPortRule): string[] {
  const { nft, bits } = family;
  const { protocol, hostPort, destination, target, masquerade, markBit } = rule;
  const to = destination === undefined ? '' : `${nft} daddr ${destination} `;
  const ports = `${protocol} dport ${hostPort}`;
  const comment = `comment "${rule.containerId.slice(0, 64)}"`;
  const address = bits === 32 ? target.address : `[${target.address}]`;
  return [
    ...masquerade.map((source) => {
      const from = source === undefined ? '' : `${nft} saddr ${bare(source)} `;
      return `${from}${to}${ports} meta mark set meta mark | ${hex(markBit)} ${comment}`;
    }),
    `${to}${ports} dnat to ${address}:${target.port} ${comment}`,
  ];
}

/** Rules by their chains. */
function chains(family: Family, rules: readonly HostPortRule[]): Map<string, readonly string[]> {
  const marks = new Set([usualMarkBit, ...rules.map(({ markBit }) => markBit)]);
  const masquerade = [...marks].map((bit) => `meta mark & ${hex(bit)} == ${hex(bit)} masquerade`);
  const lead = [`fib daddr type local jump ${chain}`];
  return new Map([
    [chain, rules.flatMap((rule) => ruleTexts(family, rule))],
    ['prerouting', lead],
    ['output', lead],
    ['postrouting', masquerade],
  ]);
}

/** What makes the table as it should be in one transaction, whatever rules it has. Chains and hooks stay where they are. */
export function hostPortDocument(family: Family, rules: readonly HostPortRule[]): string {
  const table = `${family.nft} ${hostPortTable}`;
  const lines = [
    `add table ${table}`,
    `add chain ${table} ${chain}`,
    ...entrances.map(({ name, hook }) => `add chain ${table} ${name} { ${hook}; policy accept; }`),
    `flush table ${table}`,
  ];
  for (const [name, texts] of chains(family, rules))
    lines.push(...texts.map((text) => `add rule ${table} ${name} ${text}`));
  return `${lines.join('\n')}\n`;
}

/** Makes the table anew: for one in which somebody has put something that does not go with ours. */
export function freshHostPortDocument(family: Family, rules: readonly HostPortRule[]): string {
  const table = `${family.nft} ${hostPortTable}`;
  return `add table ${table}\ndelete table ${table}\n${hostPortDocument(family, rules)}`;
}

const line =
  /^\s*(?:(?:ip6?) saddr (\S+) )?(?:(?:ip6?) daddr (\S+) )?(tcp|udp|sctp) dport (\d+) (?:meta mark set (?:meta )?mark \| (0x[0-9a-f]+)|dnat to \[?([0-9a-f.:]+?)\]?:(\d+))(?: comment ".*")?$/;

interface Mark {
  readonly port: string;
  readonly source: string | undefined;
  readonly bit: number;
}

/** The host ports that a table leads to pods, in their order. @param text as `nft list table` prints it */
export function foundNftMappings(text: string): FoundMapping[] {
  const found: FoundMapping[] = [];
  let marks: Mark[] = [];
  for (const one of text.split('\n')) {
    const match = line.exec(one);
    if (match === null) continue;
    const [, source, hostIP, protocol, hostPort, mark, address, containerPort] = match;
    const port = `${hostIP} ${protocol} ${hostPort}`;
    if (mark !== undefined) {
      marks.push({ port, source, bit: Math.log2(Number(mark)) });
      continue;
    }
    const [first, ...more] = marks.filter((each) => each.port === port);
    marks = [];
    const all = first !== undefined && more.length === 0 && first.source === undefined;
    found.push({
      address: address!,
      protocol: protocol as PortMapping['protocol'],
      hostPort: Number(hostPort),
      containerPort: Number(containerPort),
      ...(hostIP === undefined ? {} : { hostIP }),
      options: {
        ...(first === undefined ? { snat: false } : {}),
        ...(all ? { masqAll: true } : {}),
        ...(first === undefined || first.bit === usualMarkBit ? {} : { markMasqBit: first.bit }),
      },
    });
  }
  return found;
}

/** What of a table's text says whether it is whole and awake: entrances and masquerading, however nft prints the rest. */
function around(lines: readonly string[]): string {
  const some = lines.filter((one) =>
    /(type nat hook|jump hostports$|^meta mark .* masquerade$|^flags .*dormant)/.test(one),
  );
  const hooks = some.map((one) => one.replace(/^(type nat hook \w+) .*/, '$1'));
  return hooks.sort().join('\n');
}

/** @param text as `nft list table` prints the table; undefined where there is none */
export function standsAsWanted(
  family: Family,
  text: string | undefined,
  rules: readonly HostPortRule[],
): boolean {
  if (text === undefined || rules.length === 0) return text === undefined && rules.length === 0;
  const wanted = chains(family, rules);
  const lines = text.split('\n').map((one) => one.trim());
  const own = [...entrances.map(({ hook }) => hook), ...[...wanted.values()].flat()];
  const mappings = (of: string): string => JSON.stringify(foundNftMappings(of));
  return around(lines) === around(own) && mappings(text) === mappings(wanted.get(chain)!.join('\n'));
}
