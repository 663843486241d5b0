import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, withoutCredentials } from '../../model/error.ts';
import { isoTime, monotonicMs } from '../../process/clock.ts';
import type { Compared } from '../differences.ts';
import { type Look, looking, type Sockets } from '../look.ts';
import { sortDifferences } from '../plan/difference.ts';
import { lookAtPods } from '../pods.ts';
import { lookAtRoutes } from '../routes.ts';
import { serviceDifferences } from '../service-rules.ts';
import { lookAtServices } from '../services.ts';
import { lookAtNode } from '../status.ts';
import { type Listing, rowsEvent } from './plan/changes.ts';
import { driftEvent, nodeRows, nodesRest, podsEvent, serviceRows, statusEvent } from './plan/rows.ts';
import {
  againBegins,
  againEnds,
  type EventName,
  eventText,
  type NodeRow,
  type PageEvents,
  type Part,
  parts,
  type RowsEvent,
  type ServiceView,
} from './plan/view.ts';

/** Of all time a look takes one part in five: on a node of a large cluster it comes less often. */
const REST = 4;
const SHORTEST_REST_MS = 1500;
const LONGEST_REST_MS = 30_000;

type RowOf = { readonly nodes: NodeRow; readonly services: ServiceView };
type ListingOf<N extends keyof RowOf> = Listing<RowOf[N]>;
type RestOf<N extends keyof RowOf> = Omit<PageEvents[N], keyof RowsEvent<RowOf[N]>>;

/** The lists as they were said last, each with what was said beside its rows. */
type Lists = {
  -readonly [N in keyof RowOf]: { readonly listing: ListingOf<N>; readonly others: string } | undefined;
};

/** Looks again and again, by the same functions as the commands, and writes what the page is told of it. */
class Feed {
  private readonly sockets: Sockets;
  private readonly output: Writable;
  /** What a page that comes now has to be told to know all: made when one does. */
  private readonly told = new Map<EventName, () => string>();
  private readonly lists: Lists = { nodes: undefined, services: undefined };
  private compared: Compared | undefined;
  private drained: Promise<void> = Promise.resolve();

  constructor(sockets: Sockets, output: Writable) {
    this.sockets = sockets;
    this.output = output;
  }

  /** Says all that is known once more: somebody has come who knows nothing. */
  repeat(): void {
    this.write(againBegins);
    for (const text of this.told.values()) this.write(text());
    this.write(againEnds);
  }

  /** @returns milliseconds until the next one */
  async look(): Promise<number> {
    const before = monotonicMs();
    await looking(this.sockets, async (look) => {
      for (const part of parts) {
        try {
          await this.lookers[part](look);
        } catch (error) {
          const text = eventText('unknown', { part, why: describeError(error) });
          this.told.set(part, () => text);
          this.write(text);
          if (part === 'nodes' || part === 'services') this.lists[part] = undefined;
        }
      }
    });
    this.compared = undefined;
    const tookMs = Math.round(monotonicMs() - before);
    const nextMs = Math.min(LONGEST_REST_MS, Math.max(SHORTEST_REST_MS, tookMs * REST));
    this.say('looked', { at: isoTime(), tookMs, nextMs });
    // A reader that takes nothing is not to have more made for it.
    await this.drained;
    return nextMs;
  }

  private readonly lookers: Readonly<Record<Part, (look: Look) => Promise<void>>> = {
    status: async (look) => {
      const { answer, compared } = await lookAtNode(look);
      this.compared = compared;
      this.say('status', statusEvent(answer));
    },
    nodes: async (look) => {
      const { nodes, foreign, agentAway } = await lookAtRoutes(look);
      this.sayRows('nodes', nodeRows(nodes), nodesRest(foreign, agentAway));
    },
    pods: async (look) => {
      const { pods, agentAway } = await lookAtPods(look);
      this.sayIfNew('pods', podsEvent(pods, agentAway));
    },
    services: async (look) => {
      const { services, proxyAway: away } = await lookAtServices(look);
      this.sayRows('services', serviceRows(services), { away });
    },
    drift: async (look) => {
      const { differences = [], unknown = [] } = this.compared ?? {};
      const services = await serviceDifferences(look).catch((error: unknown) => describeError(error));
      const [found, why] =
        typeof services === 'string' ? [[], [`rules of Services: ${services}`]] : [services, []];
      this.sayIfNew('drift', driftEvent(sortDifferences([...differences, ...found]), [...unknown, ...why]));
    },
  };

  private say<N extends EventName>(name: N, data: PageEvents[N]): void {
    const text = eventText(name, data);
    this.told.set(name, () => text);
    this.write(text);
  }

  private sayIfNew<N extends EventName>(name: N, data: PageEvents[N]): void {
    const text = eventText(name, data);
    if (this.told.get(name)?.() === text) return;
    this.told.set(name, () => text);
    this.write(text);
  }

  /** Says what of a list has changed, and nothing where that is nothing. */
  private sayRows<N extends keyof Lists>(name: N, now: ListingOf<N>, rest: RestOf<N>): void {
    const before = this.lists[name];
    const event = (since: ListingOf<N> | undefined): PageEvents[N] =>
      ({ ...rowsEvent<readonly [string, ...unknown[]]>(now, since), ...rest }) as PageEvents[N];
    const change = event(before?.listing);
    const others = JSON.stringify([now.more, rest]);
    this.lists[name] = { listing: now, others } as Lists[N];
    this.told.set(name, () => eventText(name, event(undefined)));
    const isNew = change.whole || change.rows.length + change.gone.length > 0 || before?.others !== others;
    if (isNew) this.write(eventText(name, change));
  }

  private write(text: string): void {
    if (this.output.write(withoutCredentials(text))) return;
    this.drained = new Promise((resolve) => this.output.once('drain', resolve));
  }
}

/**
 * Looks until nobody listens any more: `input` ends when the process at its other end does, however that ends.
 * @param input a line for each page that comes
 */
export async function runFeed(sockets: Sockets, input: Readable, output: Writable): Promise<void> {
  const feed = new Feed(sockets, output);
  let isOver = false;
  const over = new Promise<void>((resolve) => {
    const end = (): void => {
      isOver = true;
      resolve();
    };
    input
      .once('end', end)
      .once('error', end)
      .on('data', () => feed.repeat());
    output.once('error', end);
  });
  while (!isOver) {
    const restMs = await Promise.race([feed.look(), over]);
    if (restMs !== undefined) await Promise.race([sleep(restMs), over]);
  }
}
