import { conditionsOf } from './conditions.ts';
import { ownChain } from './hostports.ts';
import { bareAddress, type HostPortOptions, type PortMapping } from './pod.ts';

/** What a plugin made for one container in the node's rules. */
export interface PluginRules {
  readonly name: string;
  /** These two are empty where nothing tells. */
  readonly network: string;
  readonly containerId: string;
  /** True when that is the beginning only. */
  readonly isCut?: boolean;
  /** The container's interface, where rules are of one. */
  readonly ifname?: string;
  /** Pod addresses that the rules are about. */
  readonly addresses: readonly string[];
}

export function isOfContainer({ containerId, isCut }: PluginRules, id: string): boolean {
  return containerId === id || (isCut === true && id.startsWith(containerId));
}

/** A chain that the portmap or bridge plugin made for one container, with what leads to it. */
export interface ForeignChain extends PluginRules {
  /** The rules that jump to it, as iptables-save prints them. */
  readonly jumps: readonly string[];
}

/** A port of the node that a rule leads to a pod's address. */
export interface FoundMapping extends PortMapping {
  readonly address: string;
  readonly options: HostPortOptions;
}

/** What could be read of these. */
export interface ReadMappings {
  readonly found: readonly FoundMapping[];
  /** False when there may be more, which a later look will find. */
  readonly isWhole: boolean;
}

const chainName = /^CNI-(?:(?:DN|SN)-)?[0-9a-f]{10,}$/;
const target = /--to-destination \[?([0-9a-f.:]+?)\]?:(\d+)$/;

/**
 * The chains of single containers in table nat. The plugins name the container in a comment of the rule that jumps there:
 * `dnat name: "cbr0" id: "0123…"`, for masquerading without `dnat`.
 * @param saved the table as iptables-save prints it
 */
export function foreignChains(saved: string): ForeignChain[] {
  const lines = saved.split('\n');
  const names = lines
    .flatMap((line) => /^:(\S+) /.exec(line)?.[1] ?? [])
    .filter((name) => chainName.test(name));
  return names.flatMap((name) => {
    const jumps = lines.filter((line) => line.startsWith('-A ') && line.endsWith(` -j ${name}`));
    const comment = jumps
      .map((line) => /name: \\"(.*?)\\" id: \\"(.*?)\\"/.exec(line))
      .find((match) => match !== null);
    if (comment === undefined || comment === null) return [];
    const rules = lines.filter((line) => line.startsWith(`-A ${name} `));
    const targets = rules.flatMap((line) => target.exec(line)?.[1] ?? []);
    const sources = jumps.flatMap((line) => / -s (\S+)/.exec(line)?.[1] ?? []).map(bareAddress);
    const [, network = '', containerId = ''] = comment;
    return [{ name, jumps, network, containerId, addresses: [...new Set([...targets, ...sources])] }];
  });
}

/** The chain in which the firewall plugin accepts what pods send and get. */
export const forwardChain = 'CNI-FORWARD';

/** Rules of the firewall plugin about one address: they name no container. */
export interface ForwardRules extends PluginRules {
  /** As `iptables -S` prints them. */
  readonly lines: readonly string[];
}

const accepting = new RegExp(
  `^-A ${forwardChain} (?:-s (\\S+)|-d (\\S+) -m conntrack --ctstate RELATED,ESTABLISHED) -j ACCEPT$`,
);

/** @param lines of {@link forwardChain} */
export function forwardRules(lines: readonly string[]): ForwardRules[] {
  const byAddress = new Map<string, string[]>();
  for (const line of lines) {
    const [, source, destination] = accepting.exec(line) ?? [];
    const [address, length] = (source ?? destination ?? '').split('/');
    if (address === undefined || (length !== '32' && length !== '128')) continue;
    byAddress.set(address, [...(byAddress.get(address) ?? []), line]);
  }
  return [...byAddress].map(([address, own]) => ({
    name: `${forwardChain} ${address}`,
    network: '',
    containerId: '',
    addresses: [address],
    lines: own,
  }));
}

/** What iptables-restore must be told so that the rules are gone; undefined for none. */
export function removeForwardDocument(rules: readonly ForwardRules[]): string | undefined {
  if (rules.length === 0) return undefined;
  const lines = rules.flatMap((one) => one.lines.map((line) => line.replace(/^-A /, '-D ')));
  return ['*filter', ...lines, 'COMMIT', ''].join('\n');
}

/** What iptables-restore must be told so that the chains are gone; undefined for none. */
export function removeChainsDocument(chains: readonly ForeignChain[]): string | undefined {
  if (chains.length === 0) return undefined;
  return [
    '*nat',
    ...chains.map(({ name }) => `:${name} - [0:0]`),
    ...chains.flatMap(({ jumps }) => jumps.map((jump) => jump.replace(/^-A /, '-D '))),
    ...chains.map(({ name }) => `-X ${name}`),
    'COMMIT',
    '',
  ].join('\n');
}

/** A rule that is about a port of the node, in parts that a mark rule has in common with its DNAT rule. */
function portRule(
  line: string,
): { readonly of: string; readonly source?: string; readonly target: string } | undefined {
  const match = /^-A (\S+)(?: -s (\S+))?((?: -d \S+)? -p \S+ .*) -j (.+)$/.exec(line);
  if (match === null) return undefined;
  const [, chain, source, rest, target = ''] = match;
  return { of: `${chain}${rest}`, ...(source === undefined ? {} : { source }), target };
}

/** What of the plugin's options the rules of a host port show. */
function optionsOf(lines: readonly string[], dnat: string): HostPortOptions {
  const of = portRule(dnat)?.of;
  const marks = lines.flatMap((line) => portRule(line) ?? []).filter((rule) => rule.of === of);
  const marking = marks.filter(({ target: to }) => !to.startsWith('DNAT '));
  const [first] = marking;
  if (first === undefined) return { snat: false };
  const bit = /^MARK --set-xmark 0x([0-9a-f]+)\//.exec(first.target)?.[1];
  return {
    ...(first.source === undefined ? { masqAll: true } : {}),
    ...(bit === undefined ? {} : { markMasqBit: Math.log2(Number.parseInt(bit, 16)) }),
  };
}

/** The conditions under which packets get to the chain of one pod, which has this address. */
function conditionsTo(lines: readonly string[], chain: string, address: string): HostPortOptions {
  const jump = lines.find((line) => line.startsWith('-A CNI-HOSTPORT-') && line.endsWith(` -j ${chain}`));
  const words = jump === undefined ? [] : conditionsOf(jump);
  if (words.length === 0) return {};
  return address.includes(':') ? { conditionsV6: words } : { conditionsV4: words };
}

/** The host ports that rules of the portmap plugin, or ours of an earlier run, lead to pods. */
export function foundMappings(saved: string): FoundMapping[] {
  const lines = saved.split('\n').filter((line) => line.startsWith('-A '));
  const chain = /^-A (CNI-DN-[0-9a-f]+|CNI-HOSTPORT-TWILL|TWILL-HP-\S+) .*-p (tcp|udp|sctp) .*--dport (\d+) /;
  return lines.flatMap((line) => {
    const match = chain.exec(line);
    const to = target.exec(line);
    if (match === null || to === null) return [];
    const [, name = '', protocol, hostPort] = match;
    const hostIP = / -d (\S+)/.exec(line)?.[1];
    const conditions = name === ownChain ? {} : conditionsTo(lines, name, to[1]!);
    const mapping: FoundMapping = {
      address: to[1]!,
      protocol: protocol as PortMapping['protocol'],
      hostPort: Number(hostPort),
      containerPort: Number(to[2]),
      ...(hostIP === undefined ? {} : { hostIP: bareAddress(hostIP) }),
      options: { ...optionsOf(lines, line), ...conditions },
    };
    return [mapping];
  });
}
