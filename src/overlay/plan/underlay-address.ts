import { type Address, type Family, ipv6 } from '../../model/address.ts';
import {
  goesNowhere,
  type HostAddress,
  type HostLink,
  type HostNetwork,
  isOne,
  linkOf,
} from './host-network.ts';

// IFA_F_* (include/uapi/linux/if_addr.h)
const TEMPORARY = 0x01;
const OPTIMISTIC = 0x04;
const DADFAILED = 0x08;
const DEPRECATED = 0x20;
const TENTATIVE = 0x40;

/** RT_SCOPE_LINK (include/uapi/linux/rtnetlink.h) */
const LINK = 253;

/** What an address that is another machine's too cannot do: reach other nodes. */
function usable({ flags }: HostAddress): boolean {
  return (flags & DADFAILED) === 0;
}

/** Addresses of the link by which other nodes can be reached. */
export function ownAddresses(host: HostNetwork, link: HostLink, family: Family): HostAddress[] {
  return host.addresses.filter(
    (entry) => entry.index === link.index && entry.address.family === family && usable(entry),
  );
}

const TENTATIVE_BADNESS = 4;

/** 0 for an address that lasts; more for those that others come before. */
function badness({ address, scope, flags }: HostAddress): number {
  if ((flags & TENTATIVE) !== 0 && (flags & OPTIMISTIC) === 0) return TENTATIVE_BADNESS;
  // As what a machine gives itself (169.254.0.0/16): behind a router nobody answers to it.
  if (scope >= LINK) return 3;
  if ((flags & DEPRECATED) !== 0) return 2;
  return address.family === ipv6 && (flags & TEMPORARY) !== 0 ? 1 : 0;
}

/** IFA_F_SECONDARY, the bit that means temporary for IPv6: another address of the same network came first. */
const secondary = ({ address, flags }: HostAddress): boolean =>
  address.family !== ipv6 && (flags & TEMPORARY) !== 0;

/** Compares lists of numbers, the first difference counts. */
function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) if (value !== b[index]) return value - b[index]!;
  return 0;
}

/** What the choice among a link's addresses goes by: groups of wanted ones, the first group before the others. */
export type Wanted = readonly (readonly Address[])[];

/**
 * The address for the link, in this order: one that was asked for, one that lasts, the one that the route names, the one in
 * use, the one that the kernel would take. In which order they are listed decides nothing: a further address comes first
 * in the kernel's list for IPv6, and last for IPv4.
 */
export function chooseAddress(
  host: HostNetwork,
  link: HostLink,
  family: Family,
  wanted: Wanted,
  inUse: readonly Address[],
): Address | undefined {
  const paths = [...(host.canReach === undefined ? [] : [host.canReach]), ...host.outside].filter(
    (path) => path.family === family && path.devices.includes(link.index),
  );
  const preferred = paths.flatMap((path) => path.preferred ?? []);
  const sources = paths.flatMap((path) => path.source ?? []);
  const asked = wanted.flat();
  const own = ownAddresses(host, link, family);
  // The address may be on another device, as on loopback where all links are unnumbered.
  const borrowed = [...preferred, ...(own.length === 0 ? sources : [])];
  const ofNowhere = [...asked, ...(own.length === 0 ? inUse : [])];
  const elsewhere = host.addresses.filter((entry) => {
    if (entry.address.family !== family || entry.index === link.index || !usable(entry)) return false;
    if (isOne(borrowed, entry.address)) return true;
    const device = linkOf(host, entry.index);
    return device !== undefined && goesNowhere(device) && isOne(ofNowhere, entry.address);
  });
  const rank = (entry: HostAddress): number[] => {
    const { address } = entry;
    const group = wanted.findIndex((list) => isOne(list, address));
    const bad = badness(entry);
    const used = inUse.findIndex(({ text }) => text === address.text);
    return [
      group < 0 || bad === TENTATIVE_BADNESS ? wanted.length : group,
      bad,
      isOne(preferred, address) ? 0 : 1,
      used < 0 ? inUse.length : used,
      isOne(sources, address) ? 0 : 1,
      secondary(entry) ? 1 : 0,
    ];
  };
  const [best] = [...own, ...elsewhere].sort(
    (a, b) => compare(rank(a), rank(b)) || (a.address.value < b.address.value ? -1 : 1),
  );
  return best?.address;
}
