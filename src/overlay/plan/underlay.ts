import {
  type Address,
  type Family,
  ipv6,
  makePrefix,
  type Prefix,
  tryParseAddress,
} from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { goRegExp } from '../../model/go-regexp.ts';
import type { Underlay } from './device.ts';

// IFA_F_* (include/uapi/linux/if_addr.h)
const TEMPORARY = 0x01;
const OPTIMISTIC = 0x04;
const DADFAILED = 0x08;
const DEPRECATED = 0x20;
const TENTATIVE = 0x40;

/** How packets leave this machine for somewhere, as the kernel says when asked. */
export interface HostPath {
  readonly family: Family;
  /** Interface index of the device that the kernel would use. */
  readonly device: number;
  /** That device and others that serve as well: a route may have several next hops. */
  readonly devices: readonly number[];
  /** The source address that the kernel would use. */
  readonly source: Address | undefined;
  /** The source address that the route itself names. */
  readonly preferred: Address | undefined;
  readonly gateway?: Address | undefined;
}

/** Interface index of the VRF whose table says where packets from the device go; undefined for the usual tables. */
export function domainOf(
  links: readonly { readonly index: number; readonly kind: string | undefined; readonly master: number }[],
  device: number,
): number | undefined {
  const link = links.find(({ index }) => index === device);
  const domain = links.find(
    ({ index, kind }) => kind === 'vrf' && (index === device || index === link?.master),
  );
  return domain?.index;
}

/** What the kernel says about the node's interfaces, as far as the choice needs it. */
export interface HostNetwork {
  readonly links: readonly {
    readonly index: number;
    readonly name: string;
    readonly kind: string | undefined;
    readonly mtu: number;
    readonly up: boolean;
  }[];
  readonly addresses: readonly {
    readonly index: number;
    readonly address: Address;
    readonly length: number;
    /** RT_SCOPE_*: 0 is universe; those that are for this machine alone are left out. */
    readonly scope: number;
    /** IFA_F_* */
    readonly flags: number;
  }[];
  /** The way to the outside of each family that has one. */
  readonly outside: readonly HostPath[];
  /** The way to the address in --iface-can-reach. */
  readonly canReach: HostPath | undefined;
}

/** The user's wishes, in the order in which they are tried. */
export interface UnderlayOptions {
  readonly families: readonly Family[];
  readonly interfaces: readonly string[];
  readonly interfacePatterns: readonly string[];
  readonly canReach: string | undefined;
  /** Public IPs that the user set. */
  readonly publicIps: readonly Address[];
  /** The Kubernetes node's InternalIP addresses: they say which interface the cluster uses. */
  readonly internalIps: readonly Address[];
  /** What the other nodes know this one by, and through which device: kept where it does as well as others. */
  readonly inUse: { readonly addresses: readonly Address[]; readonly device: number | undefined };
}

type Link = HostNetwork['links'][number];
type HostAddress = HostNetwork['addresses'][number];

/** RT_SCOPE_LINK (include/uapi/linux/rtnetlink.h) */
const LINK = 253;

/** What an address that is another machine's too cannot do: reach other nodes. */
function usable({ flags }: HostAddress): boolean {
  return (flags & DADFAILED) === 0;
}

function ownAddresses(host: HostNetwork, link: Link, family: Family): HostAddress[] {
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

const isOne = (list: readonly Address[], { text }: Address): boolean => list.some((one) => one.text === text);

/** Devices that nothing leaves by. */
const goesNowhere = ({ name, kind }: Link): boolean => name === 'lo' || kind === 'dummy' || kind === 'vrf';

const linkOf = (host: HostNetwork, device: number | undefined): Link | undefined =>
  host.links.find(({ index }) => index === device);

/** Compares lists of numbers, the first difference counts. */
function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) if (value !== b[index]) return value - b[index]!;
  return 0;
}

/** What the choice among a link's addresses goes by: groups of wanted ones, the first group before the others. */
type Wanted = readonly (readonly Address[])[];

/**
 * The address for the link, in this order: one that was asked for, one that lasts, the one that the route names, the one in
 * use, the one that the kernel would take. In which order they are listed decides nothing: a further address comes first
 * in the kernel's list for IPv6, and last for IPv4.
 */
function chooseAddress(
  host: HostNetwork,
  link: Link,
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

/** Largest MTU that is believed of a device by which nothing leaves. */
const ETHERNET_MTU = 1500;

/** The link if there is an address of every enabled family for it, and those addresses. */
function complete(
  host: HostNetwork,
  link: Link | undefined,
  options: UnderlayOptions,
  wanted: Wanted,
  why: string,
): Underlay | undefined {
  if (link === undefined) return undefined;
  const addresses = new Map<Family['name'], Address>();
  const networks: Prefix[] = [];
  const carries: Family['name'][] = [];
  for (const family of options.families) {
    const chosen = chooseAddress(host, link, family, wanted, options.inUse.addresses);
    if (chosen === undefined) return undefined;
    const own = ownAddresses(host, link, family);
    addresses.set(family.name, chosen);
    if (
      isOne(
        own.map(({ address }) => address),
        chosen,
      )
    )
      carries.push(family.name);
    networks.push(...own.map(({ address, length }) => makePrefix(address, length)));
  }
  const mtu = goesNowhere(link) ? Math.min(link.mtu, ETHERNET_MTU) : link.mtu;
  return { name: link.name, index: link.index, mtu, addresses, networks, carries, why };
}

/** The path's devices, the one in use first, then the kernel's choice. */
function* linksOf(host: HostNetwork, path: HostPath, { inUse }: UnderlayOptions): Generator<Link> {
  const first = path.devices.filter((device) => device === inUse.device);
  const then = path.devices.filter((device) =>
    host.addresses.some(({ index, address }) => index === device && isOne(inUse.addresses, address)),
  );
  for (const device of new Set([...first, ...then, path.device, ...path.devices])) {
    const link = linkOf(host, device);
    if (link !== undefined) yield link;
  }
}

/** The link with the address; where nothing leaves by that, the one by which packets of its family leave. */
function byAddress(host: HostNetwork, wanted: Address, options: UnderlayOptions): Link | undefined {
  const having = host.links.filter(({ index: device }) =>
    host.addresses.some(({ index, address }) => index === device && address.text === wanted.text),
  );
  const leaving = having.find((link) => !goesNowhere(link));
  if (leaving !== undefined || having.length === 0) return leaving;
  const path = host.outside.find(({ family }) => family === wanted.family);
  const [link] = path === undefined ? [] : linksOf(host, path, options);
  return link ?? having[0];
}

function byNameOrAddress(host: HostNetwork, text: string, options: UnderlayOptions): Link | undefined {
  const address = tryParseAddress(text);
  return address === undefined
    ? host.links.find(({ name }) => name === text)
    : byAddress(host, address, options);
}

function byPattern(host: HostNetwork, pattern: string, options: UnderlayOptions) {
  const expression = goRegExp(pattern);
  const links = [...host.links].sort(
    (a, b) => Number(b.index === options.inUse.device) - Number(a.index === options.inUse.device),
  );
  const matching = (link: Link): Address[] =>
    options.families.flatMap((family) =>
      ownAddresses(host, link, family)
        .map(({ address }) => address)
        .filter(({ text }) => expression.test(text)),
    );
  const byIp = links.find((link) => matching(link).length > 0);
  if (byIp !== undefined) return { link: byIp, wanted: matching(byIp) };
  return { link: links.find(({ name }) => expression.test(name)), wanted: [] };
}

function* candidates(host: HostNetwork, options: UnderlayOptions): Generator<Underlay | undefined> {
  const { interfaces, interfacePatterns, canReach, publicIps, internalIps } = options;
  const wanted = [...publicIps, ...internalIps].map((ip) => [ip]);
  for (const text of interfaces) {
    const address = tryParseAddress(text);
    const preferred = address === undefined ? wanted : [[address], ...wanted];
    yield complete(host, byNameOrAddress(host, text, options), options, preferred, `--iface ${text}`);
  }
  for (const pattern of interfacePatterns) {
    const found = byPattern(host, pattern, options);
    yield complete(host, found.link, options, [found.wanted, ...wanted], `--iface-regex ${pattern}`);
  }
  if (canReach !== undefined && host.canReach !== undefined) {
    const { preferred } = host.canReach;
    const asked = preferred === undefined ? wanted : [[preferred], ...wanted];
    for (const link of linksOf(host, host.canReach, options))
      yield complete(host, link, options, asked, `--iface-can-reach ${canReach}`);
  }
  if (interfaces.length > 0 || interfacePatterns.length > 0 || canReach !== undefined) return;
  for (const ip of publicIps)
    yield complete(host, byAddress(host, ip, options), options, wanted, `it has the public IP ${ip.text}`);
  for (const ip of internalIps) {
    const why = `it has the node's InternalIP ${ip.text}`;
    yield complete(host, byAddress(host, ip, options), options, wanted, why);
  }
  for (const path of host.outside) {
    const why = `the ${path.family.kubeName} default route leaves through it`;
    for (const link of linksOf(host, path, options)) yield complete(host, link, options, wanted, why);
  }
}

function describeWish(options: UnderlayOptions): string {
  const wishes = [
    ...options.interfaces.map((name) => `--iface ${name}`),
    ...options.interfacePatterns.map((pattern) => `--iface-regex ${pattern}`),
    ...(options.canReach === undefined ? [] : [`--iface-can-reach ${options.canReach}`]),
  ];
  return wishes.length > 0 ? wishes.join(', ') : 'the default route (set --iface to choose another)';
}

/**
 * Chooses the interface for traffic between nodes: --iface, --iface-regex, --iface-can-reach in this order, else that of
 * the public IP, of the node's InternalIP, of the default route.
 * @throws TwillError `unavailable` naming what was looked for and the interfaces there are: one may still come up
 */
export function chooseUnderlay(host: HostNetwork, options: UnderlayOptions): Underlay {
  for (const candidate of candidates(host, options)) if (candidate !== undefined) return candidate;
  const families = options.families.map(({ kubeName }) => kubeName).join(' and ');
  const present = host.links
    .map((link) => {
      const own = options.families.flatMap((family) => ownAddresses(host, link, family));
      return `${link.name}${own.length > 0 ? ` (${own.map(({ address }) => address.text).join(', ')})` : ''}`;
    })
    .join(', ');
  const noWay =
    options.canReach === undefined || host.canReach !== undefined
      ? ''
      : `; the kernel has no way out to ${options.canReach}, or that is this node itself`;
  throw new TwillError(
    'unavailable',
    `no interface with ${families} for ${describeWish(options)}; there are: ${present}${noWay}`,
  );
}
