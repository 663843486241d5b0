import type { Family } from '../../model/address.ts';

/** Who may send to the node's VXLAN port. */
export interface PeerTable {
  readonly port: number;
  /** The peers' addresses, as text. */
  readonly peers: Readonly<Record<Family['name'], ReadonlySet<string>>>;
}

/** An nftables table of its own, whichever kind the other rules are of: only nftables has sets that grow. */
export const peersTable = { nft: 'inet', name: 'twill-peers' } as const;

const sides = [
  { family: 'ipv4', nft: 'ip', set: 'peers-ipv4', type: 'ipv4_addr' },
  { family: 'ipv6', nft: 'ip6', set: 'peers-ipv6', type: 'ipv6_addr' },
] as const;

const header = `table ${peersTable.nft} ${peersTable.name}`;

function list(addresses: Iterable<string>): string {
  return [...addresses].join(', ');
}

/** The table as `nft list table` prints it, but for how it breaks long lists. */
export function peerTableText({ port, peers }: PeerTable): string {
  const sets = sides.flatMap(({ family, set, type }) => {
    // nft refuses an empty list.
    const elements = peers[family].size === 0 ? [] : [`\t\telements = { ${list(peers[family])} }`];
    return [`\tset ${set} {`, `\t\ttype ${type}`, ...elements, '\t}', ''];
  });
  const rules = sides.map(
    ({ nft, set }) => `\t\tudp dport ${port} iifname != "lo" ${nft} saddr != @${set} counter drop`,
  );
  const hook = '\t\ttype filter hook input priority mangle; policy accept;';
  return [`${header} {`, ...sets, '\tchain input {', hook, ...rules, '\t}', '}', ''].join('\n');
}

/** What makes the table `wanted` of the one that stands, in one transaction; undefined where nothing differs. */
export function peerDocument(standing: PeerTable | undefined, wanted: PeerTable): string | undefined {
  if (standing?.port !== wanted.port) return `${header}\ndelete ${header}\n${peerTableText(wanted)}`;
  const lines: string[] = [];
  for (const { family, set } of sides) {
    const [old, current] = [standing.peers[family], wanted.peers[family]];
    for (const [verb, addresses] of [
      ['add', [...current].filter((address) => !old.has(address))],
      ['delete', [...old].filter((address) => !current.has(address))],
    ] as const)
      if (addresses.length > 0)
        lines.push(`${verb} element ${peersTable.nft} ${peersTable.name} ${set} { ${list(addresses)} }\n`);
  }
  return lines.length === 0 ? undefined : lines.join('');
}

const elementsPattern = /\n\s*elements = \{([^}]*)\}/g;

/** A listed table taken apart: what is the same for all peers, and their addresses, sorted. */
export function splitPeerTable(text: string): { readonly rest: string; readonly addresses: string } {
  const addresses = [...text.matchAll(elementsPattern)].flatMap(([, inside = '']) =>
    inside.split(',').map((element) => element.trim()),
  );
  return { rest: text.replace(elementsPattern, ''), addresses: addresses.sort().join(' ') };
}
