import { type Family, ipv4, parseAddress, parseCidr } from '../../model/address.ts';
import type { PodRecord, PortMapping } from './pod.ts';

/** The portmap plugin's chains: shared with it, never flushed where its own rules may stand. */
export const dnatChain = 'CNI-HOSTPORT-DNAT';
const setMarkChain = 'CNI-HOSTPORT-SETMARK';
const masqueradeChain = 'CNI-HOSTPORT-MASQ';
/** Holds all our rules, and nobody else's. */
export const ownChain = 'CNI-HOSTPORT-TWILL';

/** The portmap plugin's bit of the packet mark for what is to be masqueraded. */
const usualMarkBit = 13;
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

function destinationMatch(mapping: PortMapping, family: Family): string | undefined {
  if (mapping.hostIP === undefined) return '';
  const address = parseAddress(mapping.hostIP);
  if (address.family !== family) return undefined;
  return address.value === 0n ? '' : ` -d ${address.text}/${family.bits}`;
}

function mappingRules(record: PodRecord, family: Family, mapping: PortMapping): string[] {
  const own = record.addresses
    .map(({ address }) => parseCidr(address))
    .find(({ address }) => address.family === family);
  const destination = destinationMatch(mapping, family);
  if (own === undefined || destination === undefined) return [];
  const { protocol, hostPort, containerPort } = mapping;
  const ports = `-p ${protocol} -m ${protocol} --dport ${hostPort}`;
  const comment = `-m comment --comment ${record.containerId.slice(0, 64)}`;
  const target = family === ipv4 ? own.address.text : `[${own.address.text}]`;
  const { snat = true, masqAll = false, markMasqBit = usualMarkBit } = record.hostPortOptions ?? {};
  // What comes from the pod's own bridge, the pod itself included, must return through the node.
  const near = [own.prefix.text, ...(family === ipv4 ? ['127.0.0.1/32'] : [])].map((text) => ` -s ${text}`);
  const sources = masqAll ? [''] : near;
  return [
    ...(snat ? sources : []).map(
      (source) => `-A ${ownChain}${source}${destination} ${ports} ${comment} -j ${markTarget(markMasqBit)}`,
    ),
    `-A ${ownChain}${destination} ${ports} ${comment} -j DNAT --to-destination ${target}:${containerPort}`,
  ];
}

/**
 * The rules of our chain, as iptables-save prints them. The newest pod comes first: where two claim a port, the older
 * one is being replaced.
 */
export function hostPortRules(records: readonly PodRecord[], family: Family): string[] {
  return [...records]
    .sort((a, b) => b.order - a.order)
    .flatMap((record) => record.portMappings.flatMap((mapping) => mappingRules(record, family, mapping)));
}

/** The document that replaces our rules where everything else is known to stand. */
export function replaceDocument(rules: readonly string[]): string {
  return `*nat\n:${ownChain} - [0:0]\n${rules.map((rule) => `${rule}\n`).join('')}COMMIT\n`;
}

/**
 * What iptables-restore must be told so that our rules, and the portmap plugin's chains around them, are as they should
 * be. The document for no rules takes our chain away.
 * @param saved the nat table as iptables-save prints it
 * @returns undefined when nothing is to be done
 */
export function repairDocument(saved: string, rules: readonly string[]): string | undefined {
  const lines = new Set(saved.split('\n'));
  const chains = new Set(Array.from(saved.matchAll(/^:(\S+) /gm), (match) => match[1]));
  if (rules.length === 0) {
    if (!chains.has(ownChain)) return undefined;
    const jump = lines.has(ownJump) ? `${ownJump.replace('-A', '-D')}\n` : '';
    return `*nat\n:${ownChain} - [0:0]\n${jump}-X ${ownChain}\nCOMMIT\n`;
  }
  const standing = saved.split('\n').filter((line) => line.startsWith(`-A ${ownChain} `));
  const missing = [
    ...requiredAround(rules).filter((rule) => rule !== ownJump && !lines.has(rule)),
    ...jumpChanges(saved.split('\n')),
  ];
  if (missing.length === 0 && standing.join('\n') === rules.join('\n')) return undefined;
  const declared = [dnatChain, setMarkChain, masqueradeChain].filter((chain) => !chains.has(chain));
  const header = [...declared, ownChain].map((chain) => `:${chain} - [0:0]`);
  return ['*nat', ...header, ...missing, ...rules, 'COMMIT', ''].join('\n');
}

/** What puts our jump at the first place of its chain. */
function jumpChanges(lines: readonly string[]): string[] {
  const standing = lines.filter((line) => line.startsWith(`-A ${dnatChain} `));
  if (standing[0] === ownJump) return [];
  return [...(standing.includes(ownJump) ? [ownJump.replace('-A', '-D')] : []), ownJumpFirst];
}

/** The chains that {@link looksWhole} is about. */
export const entryChains = ['PREROUTING', dnatChain, ownChain] as const;

/**
 * Whether our rules stand, and a packet's way to them: what a flush or a firewall's reload takes away.
 * @param lines the {@link entryChains} as `iptables -S` prints them
 */
export function looksWhole(lines: readonly string[], rules: readonly string[]): boolean {
  const standing = lines.filter((line) => line.startsWith(`-A ${ownChain} `));
  const way = entryRules.filter((rule) => rule.startsWith('-A PREROUTING '));
  const whole = way.every((rule) => lines.includes(rule)) && jumpChanges(lines).length === 0;
  return whole && standing.join('\n') === rules.join('\n');
}
