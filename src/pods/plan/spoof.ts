import type { PodRecord } from './pod.ts';

/** Our table, which holds nothing else. */
export const spoofTable = 'twill-macspoofchk';

/** A name of a device in an nft document: our own are plain. */
const quoted = (name: string): string => `"${name}"`;

/**
 * The table that drops what pods send with another source than their MAC, for those that want it (`macspoofchk`), at the
 * same place as the bridge plugin's rules: before anything else of the bridge sees it.
 * @returns undefined when no pod wants it
 */
export function spoofTableText(records: readonly PodRecord[]): string | undefined {
  const checked = records.filter(({ spoofCheck }) => spoofCheck === true);
  if (checked.length === 0) return undefined;
  const devices = checked.map(({ hostVeth }) => quoted(hostVeth)).join(', ');
  const allowed = checked.map(({ hostVeth, mac }) => `${quoted(hostVeth)} . ${mac}`).join(', ');
  return `table bridge ${spoofTable} {
  set checked { type ifname; elements = { ${devices} } }
  set allowed { type ifname . ether_addr; elements = { ${allowed} } }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname @checked iifname . ether saddr != @allowed drop
  }
}
`;
}

/** The document that puts the table in the place of the one that stands: one transaction. */
export function spoofDocument(text: string | undefined): string {
  return `table bridge ${spoofTable}\ndelete table bridge ${spoofTable}\n${text ?? ''}`;
}
