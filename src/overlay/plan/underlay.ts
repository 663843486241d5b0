import { type Address, type Family, makePrefix, type Prefix, tryParseAddress } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import type { Underlay } from './device.ts';

/** What the kernel says about the node's interfaces, as far as the choice needs it. */
export interface HostNetwork {
  readonly links: readonly {
    readonly index: number;
    readonly name: string;
    readonly mtu: number;
    readonly up: boolean;
  }[];
  readonly addresses: readonly {
    readonly index: number;
    readonly address: Address;
    readonly length: number;
    /** RT_SCOPE_*: 0 is universe. */
    readonly scope: number;
  }[];
  /** Default routes: device and metric (lower wins). */
  readonly defaults: readonly {
    readonly family: Family;
    readonly device: number;
    readonly metric: number;
  }[];
  /** Device and source that the kernel uses for the address in --iface-can-reach. */
  readonly canReach: { readonly device: number } | undefined;
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
}

type Link = HostNetwork['links'][number];

function ownAddresses(host: HostNetwork, link: Link, family: Family) {
  // Link-local and host-scope addresses cannot carry traffic between nodes.
  return host.addresses.filter(
    ({ index, address, scope }) => index === link.index && address.family === family && scope === 0,
  );
}

/** The link if it has an address of every enabled family, and those addresses; `wanted` ones first, in their order. */
function complete(
  host: HostNetwork,
  link: Link | undefined,
  options: UnderlayOptions,
  wanted: readonly Address[],
  why: string,
): Underlay | undefined {
  if (link === undefined) return undefined;
  const addresses = new Map<Family['name'], Address>();
  const direct: Prefix[] = [];
  for (const family of options.families) {
    const own = ownAddresses(host, link, family);
    const present = own.map(({ address }) => address);
    const chosen =
      wanted.find((candidate) => present.some(({ text }) => text === candidate.text)) ?? present[0];
    if (chosen === undefined) return undefined;
    addresses.set(family.name, chosen);
    direct.push(...own.map(({ address, length }) => makePrefix(address, length)));
  }
  return { name: link.name, index: link.index, mtu: link.mtu, addresses, direct, why };
}

function byAddress(host: HostNetwork, wanted: Address): Link | undefined {
  const entry = host.addresses.find(({ address }) => address.text === wanted.text);
  return host.links.find(({ index }) => index === entry?.index);
}

function byNameOrAddress(host: HostNetwork, text: string): Link | undefined {
  const address = tryParseAddress(text);
  return address === undefined ? host.links.find(({ name }) => name === text) : byAddress(host, address);
}

function byPattern(host: HostNetwork, pattern: string, families: readonly Family[]) {
  let expression: RegExp;
  try {
    expression = new RegExp(pattern);
  } catch (cause) {
    throw new TwillError('invalid', `--iface-regex '${pattern}' is not a regular expression`, cause);
  }
  const matching = (link: Link): Address[] =>
    families.flatMap((family) =>
      ownAddresses(host, link, family)
        .map(({ address }) => address)
        .filter(({ text }) => expression.test(text)),
    );
  const byIp = host.links.find((link) => matching(link).length > 0);
  if (byIp !== undefined) return { link: byIp, wanted: matching(byIp) };
  return { link: host.links.find(({ name }) => expression.test(name)), wanted: [] };
}

function* candidates(host: HostNetwork, options: UnderlayOptions): Generator<Underlay | undefined> {
  const { interfaces, interfacePatterns, canReach, publicIps, internalIps, families } = options;
  const wanted = [...publicIps, ...internalIps];
  for (const text of interfaces) {
    const address = tryParseAddress(text);
    const preferred = address === undefined ? wanted : [address, ...wanted];
    yield complete(host, byNameOrAddress(host, text), options, preferred, `--iface ${text}`);
  }
  for (const pattern of interfacePatterns) {
    const found = byPattern(host, pattern, families);
    yield complete(host, found.link, options, [...found.wanted, ...wanted], `--iface-regex ${pattern}`);
  }
  if (canReach !== undefined) {
    const link = host.links.find(({ index }) => index === host.canReach?.device);
    yield complete(host, link, options, wanted, `--iface-can-reach ${canReach}`);
  }
  if (interfaces.length > 0 || interfacePatterns.length > 0 || canReach !== undefined) return;
  for (const ip of publicIps)
    yield complete(host, byAddress(host, ip), options, wanted, `it has the public IP ${ip.text}`);
  for (const ip of internalIps)
    yield complete(host, byAddress(host, ip), options, wanted, `it has the node's InternalIP ${ip.text}`);
  for (const family of families) {
    const routes = host.defaults
      .filter((route) => route.family === family)
      .sort((a, b) => a.metric - b.metric);
    for (const { device } of routes) {
      const link = host.links.find(({ index }) => index === device);
      yield complete(host, link, options, wanted, `the ${family.kubeName} default route leaves through it`);
    }
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
  throw new TwillError(
    'unavailable',
    `no interface with ${families} for ${describeWish(options)}; there are: ${present}`,
  );
}
