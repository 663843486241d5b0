import type { RemoteInfo, Socket } from 'node:dgram';
import { once } from 'node:events';
import { describeError, TwillError } from '../model/error.ts';
import { monotonicMs } from '../process/clock.ts';
import { guarded } from '../process/guarded.ts';
import type { Log } from '../process/log.ts';
import { openSocket } from './asker.ts';
import { isQuestion, makeAnswer, PACKET_BYTES, pairOf } from './plan/packet.ts';
import type { MeshPlace } from './plan/places.ts';
import { Quota } from './plan/quota.ts';

export interface ResponderOptions {
  readonly port: number;
  readonly log: Log;
  /** True where a node of the cluster has this address. */
  readonly mayAsk: (place: MeshPlace, from: string) => boolean;
  /** Bytes of the largest packet that this node's pods get; 0 where that is not known. */
  readonly largest: () => number;
  /** A place was closed because too much came to it; it is to be served again a little later. */
  readonly onFlood: (place: MeshPlace) => void;
}

/** Pairs that were heard by the overlay: of the last questions, since the underlay is asked within seconds. */
const PAIRS = 256;
/** For so long a place where too much came in stays closed. */
export const FLOOD_MS = 1000;

const keyOf = ({ path, address }: MeshPlace): string => `${path} ${address.text}`;

/** Answers other nodes' agents. */
export class Responder {
  private readonly options: ResponderOptions;
  private readonly sockets = new Map<string, { readonly place: MeshPlace; readonly socket: Socket }>();
  private readonly closedUntil = new Map<string, number>();
  private readonly heard = new Set<string>();
  /** Questions that were answered. */
  answered = 0;
  /** What was not answered: no question, from no node, or too much. */
  passedOver = 0;

  constructor(options: ResponderOptions) {
    this.options = options;
  }

  /** True where this node answers now. */
  serves(place: MeshPlace): boolean {
    return this.sockets.has(keyOf(place));
  }

  /** The addresses of those places at which this node answers now. */
  at(places: readonly MeshPlace[]): string[] {
    return places.filter((place) => this.serves(place)).map(({ address }) => address.text);
  }

  /**
   * Answers at these places and at no others. An address that the node does not have yet is none to complain about.
   * @throws TwillError `conflict` where another program has the port
   */
  async serve(places: readonly MeshPlace[]): Promise<void> {
    const wanted = new Map(places.map((place) => [keyOf(place), place]));
    for (const [key, { socket }] of this.sockets) if (!wanted.has(key)) this.shut(key, socket);
    let failure: unknown;
    for (const [key, place] of wanted) {
      if (this.sockets.has(key) || (this.closedUntil.get(key) ?? 0) > monotonicMs()) continue;
      try {
        await this.open(key, place);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') failure ??= this.failure(place, error);
      }
    }
    if (failure !== undefined) throw failure;
  }

  close(): void {
    for (const [key, { socket }] of this.sockets) this.shut(key, socket);
  }

  private failure({ address }: MeshPlace, error: unknown): TwillError {
    const { port } = this.options;
    const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    const why = taken
      ? 'another program has it: give another --mesh-probe-port on all nodes'
      : describeError(error);
    return new TwillError(
      taken ? 'conflict' : 'unavailable',
      `cannot answer other nodes at UDP port ${port} of ${address.text}: ${why}`,
      error,
    );
  }

  private shut(key: string, socket: Socket): void {
    this.sockets.delete(key);
    socket.close();
  }

  private async open(key: string, place: MeshPlace): Promise<void> {
    const { address, family } = place;
    const socket = openSocket(family);
    try {
      // A socket for each address: the answer comes from where the question went to.
      const listening = once(socket, 'listening');
      socket.bind({ address: address.text, port: this.options.port, exclusive: true });
      await listening;
    } catch (error) {
      socket.close();
      throw error;
    }
    this.sockets.set(key, { place, socket });
    // Of one that is connected to nobody the kernel tells no errors but its own.
    socket.on('error', () => {
      if (this.sockets.get(key)?.socket === socket) this.shut(key, socket);
    });
    const quota = new Quota();
    const take = (packet: Buffer, from: RemoteInfo): void => {
      // What was read before it was closed still comes.
      if (this.sockets.get(key)?.socket !== socket) return;
      const verdict = quota.take(from.address, monotonicMs());
      if (verdict === 'flood') this.flooded(key, socket, place);
      else if (verdict === 'answer') this.answer(socket, place, packet, from);
      if (verdict !== 'answer') this.passedOver++;
    };
    socket.on('message', guarded(this.options.log, 'answering a node', take));
  }

  /** What the kernel has of it in store goes with the socket: no packet more costs this process anything. */
  private flooded(key: string, socket: Socket, place: MeshPlace): void {
    if (!this.sockets.has(key)) return;
    this.shut(key, socket);
    this.closedUntil.set(key, monotonicMs() + FLOOD_MS);
    this.options.onFlood(place);
  }

  private answer(socket: Socket, place: MeshPlace, packet: Uint8Array, from: RemoteInfo): void {
    const largest = this.options.largest();
    const isTooLong = packet.length > Math.max(PACKET_BYTES, largest);
    if (isTooLong || !isQuestion(packet) || !this.options.mayAsk(place, from.address)) {
      this.passedOver++;
      return;
    }
    const { path, family } = place;
    const pair = `${family.name} ${pairOf(packet)}`;
    const heard = this.heard.has(pair);
    if (path === 'overlay') this.hear(pair);
    const servesOverlay = [...this.sockets.values()].some(
      (one) => one.place.path === 'overlay' && one.place.family === family,
    );
    this.answered++;
    // Whoever asked may be unreachable: that is his loss.
    socket.send(makeAnswer(packet, { servesOverlay, heard, largest }), from.port, from.address, () => {});
  }

  private hear(pair: string): void {
    this.heard.add(pair);
    const [oldest] = this.heard;
    if (this.heard.size > PAIRS && oldest !== undefined) this.heard.delete(oldest);
  }
}
