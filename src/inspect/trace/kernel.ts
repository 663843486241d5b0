import { readFileSync } from 'node:fs';
import { findForwarding, findNeighbour } from '../../kernel/netlink/neighbours.ts';
import { routePacket } from '../../kernel/netlink/packet-route.ts';
import { inNetns } from '../../kernel/netns.ts';
import { readSysctl } from '../../kernel/sysctl.ts';
import { parseAddress } from '../../model/address.ts';
import { isListening } from './listeners.ts';
import { OwnElements } from './own-elements.ts';
import type { RuleSet } from './plan/hooks.ts';
import {
  type Asked,
  type Asking,
  type Kind,
  type Question,
  questionKey,
  type RouteFound,
  type RouteRefused,
} from './plan/questions.ts';
import { type OwnRules, readElement, readRules, runIn } from './rules.ts';
import type { LookedSpace, Spaces } from './spaces.ts';

type About<K extends Kind> = Asked[K]['about'];
type Answer<K extends Kind> = Asked[K]['answer'];

const neighbourStates: readonly (readonly [bit: number, word: string])[] = [
  [0x80, 'permanent'],
  [0x40, 'noarp'],
  [0x02, 'reachable'],
  [0x04, 'stale'],
  [0x08, 'delay'],
  [0x10, 'probe'],
  [0x20, 'failed'],
  [0x01, 'incomplete'],
];

const routeTypes: Readonly<Record<number, RouteFound['type']>> = {
  1: 'unicast',
  2: 'local',
  3: 'broadcast',
  5: 'multicast',
};

/** Answers what a walk asks, once for each question: all of a walk sees the same. */
export class Kernel {
  readonly spaces: Spaces;
  private readonly names: (space: LookedSpace) => string;
  private readonly answers = new Map<string, unknown>();
  private readonly own = new OwnElements();
  private readonly ownRules: OwnRules;

  /** @param names what a namespace is called, for people */
  constructor(spaces: Spaces, names: (space: LookedSpace) => string, rules: OwnRules) {
    this.spaces = spaces;
    this.names = names;
    this.ownRules = rules;
  }

  /** Runs a walk to its end. */
  async run<T>(walk: Asking<T>): Promise<T> {
    let turn = walk.next();
    while (!turn.done) turn = walk.next(await this.answer(turn.value));
    return turn.value;
  }

  /** What of the rules was not walked, or could not be read. */
  missed(): Pick<RuleSet, 'unread' | 'failures'> {
    const sets = [...this.answers].flatMap(([key, answer]) =>
      key.startsWith('rules ') ? [answer as RuleSet] : [],
    );
    const unread = [...new Set(sets.flatMap((set) => set.unread))];
    const failures = [...new Set(sets.flatMap((set) => set.failures))];
    return { unread, failures };
  }

  private async answer(question: Question): Promise<unknown> {
    const key = questionKey(question);
    if (!this.answers.has(key)) this.answers.set(key, await this.look(question));
    return this.answers.get(key);
  }

  private async look<K extends Kind>({ kind, in: id, about }: Question<K>): Promise<unknown> {
    const space = await this.spaces.get(id);
    const look = this.lookers[kind] as (space: LookedSpace, about: About<K>) => Promise<Answer<K>>;
    return await look(space, about);
  }

  private readonly lookers: {
    readonly [K in Kind]: (space: LookedSpace, about: About<K>) => Promise<Answer<K>>;
  } = {
    space: async (space) => ({ id: space.id, name: this.names(space), devices: space.devices }),
    route: async (space, about) => await this.route(space, about),
    rules: async ({ netns }, { family }) =>
      await (netns === undefined ? this.ownRules(family) : readRules(netns, family)),
    setting: async ({ netns }, { name }) =>
      netns === undefined ? readSysctl(name) : inNetns(netns, () => readSysctl(name)),
    neighbour: async (space, { device, address }) => await this.neighbour(space, device, address),
    forwarding: async (space, { device, mac }) => await this.forwarding(space, device, mac),
    residents: async () => await this.spaces.residents(),
    peer: async ({ id }, { device }) => await this.spaces.peer(id, device),
    listener: async ({ netns }, about) => isListening(netns, about),
    addressType: async (space, { address }) => await this.addressType(space, address),
    element: async ({ netns }, { set, key }) => {
      // Agent and proxy work in the namespace that this command is in.
      const found = netns === undefined ? await this.own.find(set, key) : undefined;
      return found === undefined ? await readElement(netns, set, key) : found[0];
    },
    recent: async ({ netns }, { list }) => recentClients(netns, list),
    ipset: async ({ netns }, { name, entry }) => {
      const result = await runIn(netns, 'ipset', ['test', name, entry]);
      if (result === undefined || !/ is (NOT )?in set /.test(result.stderr)) return undefined;
      return result.status === 0;
    },
  };

  private async route(space: LookedSpace, about: About<'route'>): Promise<RouteFound | RouteRefused> {
    const indexOf = (name: string): number => space.links.find((link) => link.name === name)?.index ?? 0;
    const found = await routePacket(space.socket, {
      ...about,
      destination: parseAddress(about.destination),
      source: about.source === undefined ? undefined : parseAddress(about.source),
      inDevice: about.inDevice === undefined ? undefined : indexOf(about.inDevice),
    });
    if (typeof found === 'string') return { refused: found };
    return {
      type: routeTypes[found.type] ?? 'other',
      device: space.links.find(({ index }) => index === found.device)?.name ?? '',
      gateway: found.gateway?.text,
      source: found.source?.text,
      destination: found.destination,
      table: found.table,
      protocol: found.protocol,
      mtu: found.mtu,
    };
  }

  private async neighbour(space: LookedSpace, device: string, address: string): Promise<Answer<'neighbour'>> {
    const link = space.links.find(({ name }) => name === device);
    if (link === undefined) return undefined;
    const entry = await findNeighbour(space.socket, link.index, parseAddress(address));
    if (entry === undefined) return undefined;
    const word = neighbourStates.find(([bit]) => (entry.state & bit) !== 0)?.[1] ?? 'none';
    return { mac: entry.mac, state: word };
  }

  private async forwarding(space: LookedSpace, device: string, mac: string): Promise<Answer<'forwarding'>> {
    const link = space.links.find(({ name }) => name === device);
    if (link === undefined) return undefined;
    const entry = await findForwarding(
      space.socket,
      { index: link.index, isBridge: link.kind === 'bridge' },
      mac,
    );
    if (entry === undefined) return undefined;
    return {
      destination: entry.destination?.text,
      port: space.links.find(({ index }) => index === entry.device)?.name,
    };
  }

  private async addressType(space: LookedSpace, address: string): Promise<string> {
    const found = await this.route(space, {
      destination: address,
      source: undefined,
      inDevice: undefined,
      mark: 0,
      protocol: 'sctp',
      sourcePort: undefined,
      port: undefined,
    });
    if ('refused' in found || found.type === 'other') return 'UNICAST';
    return found.type.toUpperCase();
  }
}

/** Clients of a list of xt_recent; undefined where there is no such list. */
function recentClients(netns: LookedSpace['netns'], list: string): string[] | undefined {
  const read = (): string | undefined => {
    try {
      return readFileSync(`/proc/thread-self/net/xt_recent/${list}`, 'utf8');
    } catch {
      return undefined;
    }
  };
  const text = netns === undefined ? read() : inNetns(netns, read);
  return text === undefined
    ? undefined
    : Array.from(text.matchAll(/^src=(\S+)/gm), ([, address]) => parseAddress(address!).text);
}
