/** What people write for FROM and TO, and what they mean by it. */
import { tryParseAddress } from '../../../model/address.ts';
import { TwillError } from '../../../model/error.ts';
import { podName } from '../../plan/wiring.ts';
import type { Protocol } from './packet.ts';
import type { ServiceAddress } from './service-names.ts';

/** A pod that can be named. */
export interface NamedPod {
  /** `namespace/name`, where the runtime said so. */
  readonly pod: string | undefined;
  readonly containerId: string;
  readonly netns: string;
  readonly addresses: readonly string[];
}

export interface Names {
  /** The node's own name; undefined where nobody says so. */
  readonly node: string | undefined;
  readonly pods: readonly NamedPod[];
  readonly services: readonly ServiceAddress[];
  /** Services without an address of their own. */
  readonly headless: readonly string[];
  /** Networks that all pods' addresses are of, where the agent has said so. */
  readonly podNetworks: readonly string[];
  /** Addresses of the nodes that have leases. */
  readonly nodes: readonly string[];
}

/** A name with what stands behind its colon. */
export interface Written {
  readonly name: string;
  readonly port: string | undefined;
}

export type Target =
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'outside' }
  | { readonly kind: 'node' }
  | { readonly kind: 'pod'; readonly pod: NamedPod }
  | { readonly kind: 'service'; readonly service: string; readonly ways: readonly ServiceAddress[] };

/** Takes `10.0.0.1:80`, `[fd00::1]:80`, `fd00::1`, `shop/web:http`, `outside` apart. */
export function splitTarget(text: string): Written {
  const bracketed = /^\[([^\]]+)\](?::(.+))?$/.exec(text);
  if (bracketed !== null) return { name: bracketed[1]!, port: bracketed[2] };
  if (tryParseAddress(text) !== undefined) return { name: text, port: undefined };
  const colon = text.lastIndexOf(':');
  return colon < 0
    ? { name: text, port: undefined }
    : { name: text.slice(0, colon), port: text.slice(colon + 1) };
}

const SHORTEST_ID = 4;

/** What a written name may mean of those that are called `namespace/name`: the whole of it comes before its end. */
function called<T>(name: string, all: readonly T[], nameOf: (one: T) => string | undefined): T[] {
  const whole = all.filter((one) => nameOf(one) === name);
  if (whole.length > 0 || name.includes('/')) return whole;
  return all.filter((one) => nameOf(one)?.endsWith(`/${name}`) === true);
}

function podsNamed(name: string, { pods }: Names): NamedPod[] {
  const byName = called(name, pods, ({ pod }) => pod);
  if (byName.length > 0 || name.length < SHORTEST_ID) return byName;
  return pods.filter(({ containerId }) => containerId.startsWith(name));
}

/** The ways to the one Service that is meant. @throws TwillError `invalid` where it may be several */
function servicesNamed(written: string, name: string, { services }: Names): readonly ServiceAddress[] {
  const ways = called(name, services, ({ service }) => service);
  const names = [...new Set(ways.map(({ service }) => service))];
  // As elsewhere in Kubernetes, a name alone is of namespace default.
  const usual = ways.filter(({ service }) => service === `default/${name}`);
  if (names.length <= 1 || usual.length > 0) return usual.length > 0 ? usual : ways;
  throw new TwillError('invalid', `'${written}' may be ${names.length} Services: ${listed(names)}`);
}

const MOST_NAMED = 8;

function listed(names: readonly string[]): string {
  const more = names.length > MOST_NAMED ? `, and ${names.length - MOST_NAMED} more` : '';
  return `${names.slice(0, MOST_NAMED).join(', ')}${more}`;
}

/** As it can be written so that it is told from the others. */
const distinct = ({ pod, containerId }: NamedPod): string =>
  pod === undefined ? containerId : `${pod} (container ${containerId})`;

function known({ pods, services, node }: Names): string {
  const names = [...pods.map(podName), ...new Set(services.map(({ service }) => service))];
  return `known here: ${['node', ...(node === undefined ? [] : [node]), 'outside', 'any address'].join(', ')}${names.length === 0 ? '' : `, ${listed(names)}`}`;
}

/**
 * What a name stands for. A pod is meant before a Service of the same name where a packet comes from, and after it where
 * one goes to; `pod/` or `svc/` in front says which.
 * @throws TwillError `invalid` for a name that is nobody's, or that of several
 */
export function findTarget(written: string, names: Names, side: 'from' | 'to'): Target {
  if (written === 'outside') return { kind: 'outside' };
  if (written === 'node' || written === names.node) return { kind: 'node' };
  const address = tryParseAddress(written);
  if (address !== undefined) return { kind: 'address', address: address.text };
  const prefix = /^(pod|svc)\/(.+\/.+|[^/]+)$/.exec(written);
  const name = prefix?.[2] ?? written;
  const pods = prefix?.[1] === 'svc' ? [] : podsNamed(name, names);
  // Of a pod that sends it is not asked which Services have its name.
  const isPod = prefix?.[1] === 'pod' || (side === 'from' && pods.length > 0);
  const ways = isPod ? [] : servicesNamed(written, name, names);
  if (side === 'to' && ways.length > 0) return { kind: 'service', service: ways[0]!.service, ways };
  if (pods.length > 1)
    throw new TwillError(
      'invalid',
      `'${written}' may be ${pods.length} pods: write which, or the beginning of its container's id: ${listed(pods.map(distinct))}`,
    );
  if (pods[0] !== undefined) return { kind: 'pod', pod: pods[0] };
  if (ways.length > 0)
    throw new TwillError(
      'invalid',
      `'${written}' is a Service: nothing is sent from it. Name a pod, a node or an address`,
    );
  const [headless] = called(name, names.headless, (one) => one);
  throw new TwillError(
    'invalid',
    headless === undefined
      ? `'${written}' is no pod, Service or address that is known on this node; ${known(names)}`
      : `Service ${headless} has no address of its own (it is headless): name a pod behind it, or the pod's address`,
  );
}

/** Who a packet is from. @throws TwillError `invalid` for one with a port: each connection has one of its own */
export function senderName(text: string): string {
  const { name, port } = splitTarget(text);
  if (port === undefined) return name;
  throw new TwillError('invalid', `'${text}': FROM has no port: write '${name}'`);
}

/** @throws TwillError `invalid` */
export function portNumber(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new TwillError('invalid', `'${text}' is not a port from 1 to 65535`);
  return port;
}

/**
 * The address and port of a Service that are meant: its cluster address, and the port by its number or name.
 * @throws TwillError `invalid` where it is not clear
 */
export function servicePort(
  ways: readonly ServiceAddress[],
  port: string | undefined,
  protocol: Protocol | undefined,
  isWanted: (address: string) => boolean,
): ServiceAddress {
  const near = ways.filter(({ address }) => isWanted(address));
  const pool = near.length > 0 ? near : ways;
  const cluster = pool.filter(({ kind }) => kind === 'cluster IP');
  const candidates = (cluster.length > 0 ? cluster : pool).filter(
    (way) => protocol === undefined || way.protocol === protocol,
  );
  const fitting = candidates.filter(
    (way) => port === undefined || way.portName === port || String(way.port) === port,
  );
  const ports = new Set(fitting.map((way) => way.port));
  const [first] = fitting;
  if (first !== undefined && ports.size === 1) return fitting.find((way) => way.protocol === 'tcp') ?? first;
  const list = [
    ...new Set(ways.map((way) => `${way.port}/${way.protocol}${way.portName && ` (${way.portName})`}`)),
  ];
  const what = first === undefined ? 'it has no such port' : 'say which port is meant';
  throw new TwillError('invalid', `Service ${ways[0]!.service}: ${what}; ports: ${list.join(', ')}`);
}
