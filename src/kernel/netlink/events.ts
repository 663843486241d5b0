import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import { describeError, TwillError } from '../../model/error.ts';
import { type Message, parseMessages } from './codec.ts';
import { NETLINK_ROUTE } from './constants.ts';
import { openGuarded, readDrops } from './overrun.ts';

const DROP_CHECK_MS = 500;

export interface Listener {
  /** Rtnetlink unless another protocol is given. */
  readonly protocol?: number;
  /** Multicast groups (RTNLGRP_*). */
  readonly groups: readonly number[];
  /** Classic BPF over the messages: what it refuses is never queued. */
  readonly filter?: Buffer;
  readonly onEvent: (message: Message) => void;
  /** Called, within a second, when the kernel had to drop some: the listener must then look at everything again. */
  readonly onLost: (error: Error) => void;
}

/**
 * Listens to netlink's notifications in the network namespace that is current when it is opened. Keeps the event loop
 * alive until it is closed.
 */
export class EventSocket {
  private readonly raw: RawNetlinkSocket;
  private readonly inode: string;
  private readonly listener: Listener;
  private drops = 0;
  private readonly timer: NodeJS.Timeout;
  private closed = false;

  constructor(listener: Listener) {
    const { socket, inode } = openGuarded(
      () => new RawNetlinkSocket(listener.protocol ?? NETLINK_ROUTE),
      listener.filter,
    );
    this.raw = socket;
    this.inode = inode;
    this.listener = listener;
    this.raw.on('message', (data) => this.receive(data));
    this.raw.on('error', (error) => this.lost(error));
    try {
      for (const group of listener.groups) this.raw.addMembership(group);
    } catch (error) {
      this.raw.close();
      throw error;
    }
    this.timer = setInterval(() => this.checkDrops(), DROP_CHECK_MS);
    this.timer.unref();
  }

  /** What the listener cannot take now is as good as lost: it looks at everything again. */
  private receive(data: Buffer): void {
    try {
      for (const message of parseMessages(data)) this.listener.onEvent(message);
    } catch (error) {
      this.lost(error);
    }
  }

  private checkDrops(): void {
    const drops = readDrops(this.inode);
    if (drops === undefined || drops === this.drops) return;
    const lost = drops - this.drops;
    this.drops = drops;
    this.lost(new Error(`${lost} did not fit the receive buffer`));
  }

  private lost(cause: unknown): void {
    const why = `netlink messages were lost: ${describeError(cause)}`;
    this.listener.onLost(new TwillError('unavailable', why, cause));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.timer);
    this.raw.close();
  }
}
