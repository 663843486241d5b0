/** Chain names and marks; all kube-proxy's own where it has them, so that operators' knowledge and tools hold. */

export type Table = 'nat' | 'filter';
export const tables: readonly Table[] = ['filter', 'nat'];

/** SHA-256 of UTF-8 text; given by the caller because this folder imports no platform module. */
export type Sha256 = (text: string) => Uint8Array;

export const masqueradeMark = '0x4000';

const base32Alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
/** Two characters by their ten bits. */
const base32Pairs = Array.from(
  { length: 1024 },
  (_, bits) => base32Alphabet.charAt(bits >> 5) + base32Alphabet.charAt(bits & 31),
);

/** The first 16 characters of the hash in RFC 4648 base 32, as kube-proxy shortens them. */
function shortHash(digest: Uint8Array): string {
  let text = '';
  for (let bit = 0; bit < 80; bit += 10) {
    const bytes = (digest[bit >> 3]! << 8) | digest[(bit >> 3) + 1]!;
    text += base32Pairs[(bytes >> (6 - (bit & 7))) & 1023]!;
  }
  return text;
}

export interface ServiceChains {
  readonly cluster: string;
  readonly local: string;
  readonly external: string;
  readonly firewall: string;
}

/** @param name `namespace/name:port` @param protocol lower case */
export function serviceChains(name: string, protocol: string, sha256: Sha256): ServiceChains {
  const hash = shortHash(sha256(name + protocol));
  return {
    cluster: `KUBE-SVC-${hash}`,
    local: `KUBE-SVL-${hash}`,
    external: `KUBE-EXT-${hash}`,
    firewall: `KUBE-FW-${hash}`,
  };
}

/** kube-proxy's endpoint chain name; here only the name of a session affinity list. @param backend `address:port` */
export function affinityList(name: string, protocol: string, backend: string, sha256: Sha256): string {
  return `KUBE-SEP-${shortHash(sha256(name + protocol + backend))}`;
}

const ownPattern =
  /^KUBE-((SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}|(SERVICES|EXTERNAL-SERVICES|NODEPORTS|PROXY-FIREWALL|HAIRPIN|GUARD)(-[ap][0-9a-f]{2,3})?|POSTROUTING|MARK-MASQ|FORWARD|LOCALNET|PROXY-CANARY)$/;

/** Chains the proxy owns: it may rewrite and delete them. KUBE-FIREWALL is shared with the kubelet and not among them. */
export function isOwnChain(name: string): boolean {
  return ownPattern.test(name);
}

/** A rule in a built-in chain that leads to one of ours. `rule` is as iptables-save prints it, after `-A CHAIN `. */
export interface Jump {
  readonly table: Table;
  readonly chain: string;
  readonly rule: string;
  /** Must stand before all that are not so: what those accept, this one may drop. */
  readonly early?: true;
}

function jump(table: Table, chain: string, target: string, comment: string, isNew: boolean): Jump {
  const state = isNew ? '-m conntrack --ctstate NEW ' : '';
  return { table, chain, rule: `${state}-m comment --comment "${comment}" -j ${target}` };
}

const external = 'kubernetes externally-visible service portals';
const portals = 'kubernetes service portals';
const firewall = 'kubernetes load balancer firewall';

/** In the order in which they are to stand when several are missing from one chain. */
export const jumps: readonly Jump[] = [
  jump('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', firewall, true),
  jump('filter', 'INPUT', 'KUBE-NODEPORTS', 'kubernetes health check service ports', false),
  jump('filter', 'INPUT', 'KUBE-EXTERNAL-SERVICES', external, true),
  jump('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', firewall, true),
  jump('filter', 'FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules', false),
  jump('filter', 'FORWARD', 'KUBE-SERVICES', portals, true),
  jump('filter', 'FORWARD', 'KUBE-EXTERNAL-SERVICES', external, true),
  jump('filter', 'OUTPUT', 'KUBE-PROXY-FIREWALL', firewall, true),
  jump('filter', 'OUTPUT', 'KUBE-SERVICES', portals, true),
  jump('nat', 'PREROUTING', 'KUBE-SERVICES', portals, false),
  jump('nat', 'OUTPUT', 'KUBE-SERVICES', portals, false),
  jump('nat', 'POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules', false),
];

/** Keeps packets that pretend to come from loopback out, where the kernel routes those; nobody else makes it. */
export const localnetChain = 'KUBE-LOCALNET';

/** Additionally where node ports answer on 127.0.0.1: those to KUBE-FIREWALL the kubelet makes, too, and puts first. */
export const localnetJumps: readonly Jump[] = [
  { table: 'filter', chain: 'INPUT', rule: '-j KUBE-FIREWALL', early: true },
  { table: 'filter', chain: 'INPUT', rule: `-j ${localnetChain}`, early: true },
  { table: 'filter', chain: 'OUTPUT', rule: '-j KUBE-FIREWALL', early: true },
];

/** Where node ports do not answer on 127.0.0.1 any more. */
export const retiredJumps: readonly Jump[] = localnetJumps.filter(
  ({ rule }) => rule === `-j ${localnetChain}`,
);
