import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import { TwillError } from '../../model/error.ts';
import { libc } from '../libc.ts';
import { type Message, parseMessages } from './codec.ts';
import { NLMSG_ERROR } from './constants.ts';
import { openGuarded } from './overrun.ts';

const REPLY_TIMEOUT_MS = 10_000;
/** An answer of the kernel that is as long as this fills a page: more follow. */
const FULL_ANSWER = 3000;
const MSG_PEEK = 0x02;
const MSG_DONTWAIT = 0x40;
/** Nobody reads what is put here. */
const wide = Buffer.alloc(32_768);

/** Messages that are sent, and what is to be done with the answers. */
export interface Conversation {
  /** Their sequence numbers. */
  readonly first: number;
  readonly last: number;
  /** They keep the kernel busy for long. */
  readonly aside?: boolean;
  /** Words for them. */
  readonly what: () => string;
  /** Calls `finish` with the last answer. */
  readonly onMessage: (message: Message, finish: (error?: Error) => void) => void;
}

/** Answers awaited for the sequence numbers from `first` to `last`. */
interface Pending {
  readonly first: number;
  readonly last: number;
  onMessage(message: Message): void;
  fail(error: Error): void;
}

/** @returns the refusal, 0 for an acknowledgement; undefined for any other answer */
export function errnoOf(message: Message): number | undefined {
  return message.type === NLMSG_ERROR ? -message.payload.readInt32LE(0) : undefined;
}

/**
 * What is sent to the kernel on one netlink socket, and its answers, each of which belongs to a conversation by its sequence
 * number: several are under way at a time.
 */
export class Conversations {
  private readonly raw: RawNetlinkSocket;
  /** Few at a time: a batch is one. */
  private pending: Pending[] = [];
  private seq = 1;
  private readonly fd: number | undefined;
  /** What a thread of the pool is sending. */
  private aside: Promise<void> | undefined;
  private closed = false;
  private isWide = false;

  constructor(protocol: number) {
    const { socket, fd } = openGuarded(() => new RawNetlinkSocket(protocol));
    this.raw = socket;
    this.fd = fd;
    this.raw.unref();
    this.raw.on('message', (data) => this.receive(data));
    this.raw.on('error', (error) =>
      this.failAll(new TwillError('unavailable', `netlink answers were lost: ${error.message}`, error)),
    );
  }

  get port(): number {
    return this.raw.address().port;
  }

  /** @returns the first of so many sequence numbers */
  nextSeq(count: number): number {
    if (this.seq + count > 0x7fffffff) this.seq = 1;
    const first = this.seq;
    this.seq += count;
    return first;
  }

  /** Sends messages and waits until their answers are complete. */
  converse(data: Buffer, { first, last, aside = false, what, onMessage }: Conversation): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const finish = (error?: Error): void => {
        clearTimeout(timer);
        this.forget(pending);
        error === undefined ? resolve() : reject(error);
      };
      const timer = setTimeout(
        () => finish(new TwillError('timeout', `the kernel did not answer ${what()} in time`)),
        REPLY_TIMEOUT_MS,
      );
      const pending: Pending = {
        first,
        last,
        onMessage: (message) => {
          // A long list is waited for as long as it comes.
          timer.refresh();
          onMessage(message, finish);
        },
        fail: finish,
      };
      if (!this.expect(pending)) return;
      if (aside) this.sendAside(data, finish);
      else this.send(data, finish);
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    // A thread of the pool may be about to send: the descriptor must still mean this socket then.
    if (this.aside === undefined) this.raw.close();
    else void this.aside.then(() => this.raw.close());
    this.failAll(new TwillError('unavailable', 'the netlink socket was closed'));
  }

  private failAll(error: Error): void {
    for (const pending of [...this.pending]) pending.fail(error);
  }

  /**
   * The kernel makes the parts of a list as long as the longest buffer that was ever read into, and the netlink library
   * reads each into one of its very length, so that they would stay at a page. Of a set of nftables every part is looked
   * for from the beginning: 150,000 elements take half a minute by the page.
   */
  private widen(): void {
    if (this.isWide || this.closed || this.fd === undefined) return;
    this.isWide = Number(libc().recv(this.fd, wide, wide.length, MSG_PEEK | MSG_DONTWAIT)) > 0;
  }

  private send(data: Buffer, onError: (error: Error) => void): void {
    this.raw.send(data, undefined, (error) => {
      if (error) onError(new TwillError('kernel', `netlink send failed: ${error.message}`, error));
    });
  }

  /** The kernel works on messages within send(2): on a thread of the pool it holds nobody up. */
  private sendAside(data: Buffer, onError: (error: Error) => void): void {
    if (this.fd === undefined) {
      this.send(data, onError);
      return;
    }
    // What closes the socket waits for all that are being sent.
    const sent = Promise.all([libc().sendAside(this.fd, data), this.aside]).then(([length]) => {
      if (this.aside === sent) this.aside = undefined;
      if (length !== data.length) onError(new TwillError('kernel', 'netlink send failed'));
    });
    this.aside = sent;
  }

  /** @returns false when the socket is closed, which `pending` has then been told */
  private expect(pending: Pending): boolean {
    if (this.closed) {
      pending.fail(new TwillError('unavailable', 'the netlink socket was closed'));
      return false;
    }
    if (this.pending.length === 0) this.raw.ref();
    this.pending.push(pending);
    return true;
  }

  private forget(pending: Pending): void {
    const at = this.pending.indexOf(pending);
    if (at < 0) return;
    this.pending.splice(at, 1);
    if (this.pending.length === 0 && !this.closed) this.raw.unref();
  }

  private receive(data: Buffer): void {
    if (data.length >= FULL_ANSWER) this.widen();
    for (const message of parseMessages(data)) {
      const pending = this.pending.find(({ first, last }) => first <= message.seq && message.seq <= last);
      try {
        pending?.onMessage(message);
      } catch (error) {
        pending?.fail(error as Error);
      }
    }
  }
}
