import type { PortMapping } from './pod.ts';

/** A chain that the portmap or bridge plugin made for one container, with what leads to it. */
export interface ForeignChain {
  readonly name: string;
  /** The rules that jump to it, as iptables-save prints them. */
  readonly jumps: readonly string[];
  readonly network: string;
  readonly containerId: string;
  /** Pod addresses that its rules are about. */
  readonly addresses: readonly string[];
}

/** A port of the node that a rule leads to a pod's address. */
export interface FoundMapping extends PortMapping {
  readonly address: string;
}

const chainName = /^CNI-(?:(?:DN|SN)-)?[0-9a-f]{10,}$/;
const target = /--to-destination \[?([0-9a-f.:]+?)\]?:(\d+)$/;

const bare = (address: string): string => address.replace(/\/\d+$/, '');

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
    const sources = jumps.flatMap((line) => / -s (\S+)/.exec(line)?.[1] ?? []).map(bare);
    const [, network = '', containerId = ''] = comment;
    return [{ name, jumps, network, containerId, addresses: [...new Set([...targets, ...sources])] }];
  });
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

/** The host ports that rules of the portmap plugin, or ours of an earlier run, lead to pods. */
export function foundMappings(saved: string): FoundMapping[] {
  return saved.split('\n').flatMap((line) => {
    const match = /^-A CNI-(?:DN-[0-9a-f]+|HOSTPORT-TWILL) .*-p (tcp|udp|sctp) .*--dport (\d+) /.exec(line);
    const to = target.exec(line);
    if (match === null || to === null) return [];
    const hostIP = / -d (\S+)/.exec(line)?.[1];
    const mapping: FoundMapping = {
      address: to[1]!,
      protocol: match[1] as PortMapping['protocol'],
      hostPort: Number(match[2]),
      containerPort: Number(to[2]),
      ...(hostIP === undefined ? {} : { hostIP: bare(hostIP) }),
    };
    return [mapping];
  });
}
