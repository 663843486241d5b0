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
import { driftEvent, nodeRows, nodesEvent, podsEvent, servicesEvent, statusEvent } from './plan/rows.ts';
import { type EventName, eventText, type NodeRow, type PageEvents, type Part, parts } from './plan/view.ts';

/** Of all time a look takes one part in five: on a node of a large cluster it comes less often. */
const REST = 4;
const SHORTEST_REST_MS = 1500;
const LONGEST_REST_MS = 30_000;

/** Looks again and again, by the same functions as the commands, and writes what the page is told of it. */
class Feed {
  private readonly sockets: Sockets;
  private readonly output: Writable;
  /** What a page that comes now has to be told to know all. */
  private readonly told = new Map<EventName, string>();
  private nodes: ReadonlyMap<string, NodeRow> | undefined;
  private compared: Compared | undefined;
  private drained: Promise<void> = Promise.resolve();

  constructor(sockets: Sockets, output: Writable) {
    this.sockets = sockets;
    this.output = output;
  }

  /** Says all that is known once more: somebody has come who knows nothing. */
  repeat(): void {
    for (const text of this.told.values()) this.write(text);
  }

  /** @returns milliseconds until the next one */
  async look(): Promise<number> {
    const before = monotonicMs();
    await looking(this.sockets, async (look) => {
      for (const part of parts) {
        try {
          await this.lookers[part](look);
        } catch (error) {
          this.told.set(part, eventText('unknown', { part, why: describeError(error) }));
          this.write(this.told.get(part)!);
          if (part === 'nodes') this.nodes = undefined;
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
      const { nodes, foreign, agentAway: away } = await lookAtRoutes(look);
      const { rows, more } = nodeRows(nodes);
      const rest = { more, foreign, away };
      const change = nodesEvent(rows, this.nodes, rest);
      this.nodes = rows;
      this.told.set('nodes', eventText('nodes', nodesEvent(rows, undefined, rest)));
      this.write(eventText('nodes', change));
    },
    pods: async (look) => {
      const { pods, agentAway } = await lookAtPods(look);
      this.sayIfNew('pods', podsEvent(pods, agentAway));
    },
    services: async (look) => {
      this.sayIfNew('services', servicesEvent(await lookAtServices(look)));
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
    this.told.set(name, text);
    this.write(text);
  }

  private sayIfNew<N extends EventName>(name: N, data: PageEvents[N]): void {
    if (this.told.get(name) !== eventText(name, data)) this.say(name, data);
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
