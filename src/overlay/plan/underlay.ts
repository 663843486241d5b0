import { type Address, type Family, makePrefix, type Prefix, tryParseAddress } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { goRegExp } from '../../model/go-regexp.ts';
import type { Underlay } from './device.ts';
import {
  goesNowhere,
  type HostLink,
  type HostNetwork,
  type HostPath,
  isOne,
  linkOf,
} from './host-network.ts';
import { chooseAddress, ownAddresses, type Wanted } from './underlay-address.ts';

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

/** Largest MTU that is believed of a device by which nothing leaves. */
const ETHERNET_MTU = 1500;

/** The link if there is an address of every enabled family for it, and those addresses. */
function complete(
  host: HostNetwork,
  link: HostLink | undefined,
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
function* linksOf(host: HostNetwork, path: HostPath, { inUse }: UnderlayOptions): Generator<HostLink> {
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
function byAddress(host: HostNetwork, wanted: Address, options: UnderlayOptions): HostLink | undefined {
  const having = host.links.filter(({ index: device }) =>
    host.addresses.some(({ index, address }) => index === device && address.text === wanted.text),
  );
  const leaving = having.find((link) => !goesNowhere(link));
  if (leaving !== undefined || having.length === 0) return leaving;
  const path = host.outside.find(({ family }) => family === wanted.family);
  const [link] = path === undefined ? [] : linksOf(host, path, options);
  return link ?? having[0];
}

function byNameOrAddress(host: HostNetwork, text: string, options: UnderlayOptions): HostLink | undefined {
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
  const matching = (link: HostLink): Address[] =>
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
