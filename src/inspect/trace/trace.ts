import { killChildren } from '../../kernel/process.ts';
import { type Family, ipv4, ipv6, isLinkLocal, parseAddress, tryParseAddress } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';
import { type InspectFlags, type Screen, show } from '../output.ts';
import { podName } from '../plan/wiring.ts';
import { Kernel } from './kernel.ts';
import { readNames } from './names.ts';
import { type TraceAnswer, type TraceEnd, traceAnswer } from './plan/answer.ts';
import type { Protocol } from './plan/packet.ts';
import type { Sender, TraceRequest } from './plan/request.ts';
import {
  findTarget,
  type Names,
  portNumber,
  senderName,
  servicePort,
  splitTarget,
  type Target,
} from './plan/targets.ts';
import { traceText } from './plan/trace-text.ts';
import { walk } from './plan/walk.ts';
import { probe } from './probe.ts';
import { type OwnRules, ownRules } from './rules.ts';
import { type LookedSpace, Spaces } from './spaces.ts';

export interface TraceFlags extends InspectFlags {
  readonly protocol?: Protocol;
  readonly fromAddress?: string;
  /** Send a real packet, too. */
  readonly probe?: boolean;
}

/** Documentation addresses (RFC 5737, RFC 3849): nobody's, so they are routed as the rest of the world is. */
const someone = { ipv4: '203.0.113.1', ipv6: '2001:db8:ffff::1' } as const;

function familyOf(address: string): Family {
  return parseAddress(address).family;
}

function ofFamily(addresses: readonly string[], family: Family): string | undefined {
  return addresses.find((address) => familyOf(address) === family);
}

/** What a namespace is called: a pod by its name, else by an address. */
function spaceName(space: LookedSpace, { node, pods }: Names): string {
  if (space.id === 'node') return node === undefined ? 'node' : `node ${node}`;
  const own = space.devices.flatMap(({ addresses }) => addresses.map(({ address }) => address));
  const pod = pods.find(({ addresses }) => addresses.some((address) => own.includes(address)));
  return `pod ${pod === undefined ? (own[0] ?? space.id) : podName(pod)}`;
}

/** An address that the node itself is reached by: of its first device that no pod is behind. */
function nodeAddress({ node }: Spaces, family: Family): string | undefined {
  const outward = node.devices.filter(
    ({ name, kind, up }) => up && name !== 'lo' && kind !== 'bridge' && kind !== 'vxlan',
  );
  const all = outward.flatMap(({ addresses }) => addresses.map(({ address }) => address));
  return ofFamily(
    all.filter((address) => !isLinkLocal(parseAddress(address))),
    family,
  );
}

/** The pod whose address it is, among those behind the node's devices. */
async function residentSpace(spaces: Spaces, address: string): Promise<string | undefined> {
  return (await spaces.residents()).find(({ addresses }) => addresses.includes(address))?.space;
}

function isOwn({ node }: Spaces, address: string): boolean {
  const loopback = address === '::1' || /^127\./.test(address);
  return loopback || node.devices.some(({ addresses }) => addresses.some((one) => one.address === address));
}

/** Where a packet goes, as it was asked for. */
interface Destination {
  readonly end: TraceEnd;
  readonly protocol: Protocol;
}

class Request {
  private readonly spaces: Spaces;
  private readonly names: Names;
  private readonly flags: TraceFlags;

  constructor(spaces: Spaces, names: Names, flags: TraceFlags) {
    this.spaces = spaces;
    this.names = names;
    this.flags = flags;
  }

  /** The family that FROM speaks of; undefined where it may be either. */
  familyOfSender(from: Target): Family | undefined {
    const { fromAddress } = this.flags;
    if (fromAddress !== undefined) return familyOf(fromAddress);
    return from.kind === 'address' ? familyOf(from.address) : undefined;
  }

  destination(text: string, wanted: Family | undefined): Destination {
    const { name, port } = splitTarget(text);
    const target = findTarget(name, this.names, 'to');
    const { protocol } = this.flags;
    if (target.kind === 'service') {
      const way = servicePort(
        target.ways,
        port,
        protocol,
        (address) => familyOf(address) === (wanted ?? ipv4),
      );
      const label = `Service ${way.service}${way.portName === '' ? '' : `:${way.portName}`}`;
      return { end: { name: label, address: way.address, port: way.port }, protocol: way.protocol };
    }
    const number = portNumber(port);
    if (target.kind === 'node' && number === undefined)
      throw new TwillError('invalid', `'${text}': write the port behind the node, as in ${name}:30080`);
    const address = this.addressOf(target, name, wanted ?? ipv4);
    const end = { name: labelOf(target, name), address, ...(number === undefined ? {} : { port: number }) };
    return { end, protocol: protocol ?? 'tcp' };
  }

  private addressOf(target: Target, name: string, family: Family): string {
    if (target.kind === 'address') return target.address;
    if (target.kind === 'outside') return someone[family.name];
    const own =
      target.kind === 'pod'
        ? (ofFamily(target.pod.addresses, family) ?? target.pod.addresses[0])
        : (nodeAddress(this.spaces, family) ?? nodeAddress(this.spaces, family === ipv4 ? ipv6 : ipv4));
    if (own === undefined) throw new TwillError('invalid', `'${name}' has no address`);
    return own;
  }

  async sender(from: Target, name: string, family: Family): Promise<{ sender: Sender; end: TraceEnd }> {
    const { fromAddress } = this.flags;
    const label = labelOf(from, name);
    const outside = (address: string) => ({
      sender: { kind: 'outside' as const, address },
      end: { name: label, address },
    });
    const inside = async (space: string, own: string | undefined) => {
      const address = fromAddress ?? own;
      const title = spaceName(await this.spaces.get(space), this.names);
      return {
        sender: { kind: 'inside' as const, space, address },
        end: { name: title, address: address ?? '' },
      };
    };
    switch (from.kind) {
      case 'outside':
        return outside(fromAddress ?? someone[family.name]);
      case 'node':
        return await inside('node', undefined);
      case 'pod':
        return await inside(await this.spaces.enter(from.pod.netns), ofFamily(from.pod.addresses, family));
      case 'address': {
        if (isOwn(this.spaces, from.address)) return await inside('node', from.address);
        const space = await residentSpace(this.spaces, from.address);
        return space === undefined ? outside(fromAddress ?? from.address) : await inside(space, from.address);
      }
      default:
        throw new TwillError('internal', `nothing is sent from a ${from.kind}`);
    }
  }
}

function labelOf(target: Target, name: string): string {
  return target.kind === 'pod' ? `pod ${podName(target.pod)}` : name;
}

/** Nobody has the cluster address of a Service: rules must translate it. */
function isVirtual(address: string, { services }: Names): boolean {
  return services.some((way) => way.address === address && way.kind === 'cluster IP');
}

function checkFlags({ fromAddress }: TraceFlags): void {
  if (fromAddress !== undefined && tryParseAddress(fromAddress) === undefined)
    throw new TwillError('invalid', `--from-address '${fromAddress}' is not an IP address`);
}

/** The family that will be asked about, unless names lead to the other one. */
function likelyFamily(from: string, to: string, { fromAddress = '' }: TraceFlags): Family {
  return [from, to, fromAddress].some((text) => /:.*:/.test(text)) ? ipv6 : ipv4;
}

/** The way of a packet in the namespace that this process is in. @throws TwillError `invalid` for names that are nobody's */
export async function tracePacket(from: string, to: string, flags: TraceFlags): Promise<TraceAnswer> {
  checkFlags(flags);
  const rules = ownRules();
  // The longest of what is to be read goes on beside the rest. Who has no rules to walk through is told so then.
  rules(likelyFamily(from, to, flags)).catch(() => {});
  try {
    return await traceBy(rules, from, to, flags);
  } finally {
    // What reads rules that nobody needs any more (a name is nobody's) does not outlive this process.
    killChildren('the trace has ended');
  }
}

async function traceBy(rules: OwnRules, from: string, to: string, flags: TraceFlags): Promise<TraceAnswer> {
  const names = await readNames(flags, rules);
  const spaces = await Spaces.open();
  try {
    const request = new Request(spaces, names, flags);
    const senderText = senderName(from);
    const source = findTarget(senderText, names, 'from');
    const { end: target, protocol } = request.destination(to, request.familyOfSender(source));
    const family = familyOf(target.address);
    const { sender, end } = await request.sender(source, senderText, family);
    if (sender.address !== undefined && familyOf(sender.address) !== family)
      throw new TwillError('invalid', `${sender.address} and ${target.address} are not of one family`);
    const kernel = new Kernel(spaces, (space) => spaceName(space, names), rules);
    const asked: TraceRequest = {
      family,
      protocol,
      from: sender,
      destination: target.address,
      port: target.port,
      isVirtual: isVirtual(target.address, names),
      podNetworks: names.podNetworks,
      nodes: names.nodes,
    };
    const walked = await kernel.run(walk(asked));
    const { notes } = names;
    const answer = traceAnswer({ from: end, to: target, protocol, notes }, walked, kernel.missed());
    if (flags.probe !== true) return answer;
    const netns = sender.kind === 'inside' ? (await spaces.get(sender.space)).netns : undefined;
    return { ...answer, probe: await probe(netns, asked, answer) };
  } finally {
    await spaces.close();
  }
}

const statuses = { delivered: 0, dies: 1, unknown: 2 } as const;

/** `twill trace` */
export async function showTrace(from: string, to: string, flags: TraceFlags): Promise<void> {
  await show(flags, {
    look: () => tracePacket(from, to, flags),
    table: (answer, { paint, width }: Screen) => traceText(answer, { paint, width }),
    exitStatus: ({ verdict, probe: real }) => (real?.agrees === false ? 2 : statuses[verdict]),
  });
}
