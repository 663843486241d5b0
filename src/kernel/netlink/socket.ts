import { RawNetlinkSocket } from 'netlink/dist/raw.js';
import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { libc } from '../libc.ts';
import { type Message, MessageWriter, parseMessages } from './codec.ts';
import {
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './constants.ts';
import { openGuarded } from './overrun.ts';

/**
 * Messages in one send. The kernel handles a send synchronously and queues one reply per failure, so the size is
 * bounded by what fits the default receive buffer (208 KiB, about 768 bytes a reply) even if every message fails.
 */
const BATCH = 200;
/** A list that the kernel marks as interrupted is asked for again so often. */
export const DUMP_RETRIES = 5;
const REPLY_TIMEOUT_MS = 10_000;
/** A transaction of more bytes keeps the kernel busy for long. */
const ASIDE_BYTES = 16_384;

/** An answer of the kernel that is as long as this fills a page: more follow. */
const FULL_ANSWER = 3000;
const MSG_PEEK = 0x02;
const MSG_DONTWAIT = 0x40;
/** Nobody reads what is put here. */
const wide = Buffer.alloc(32_768);

/** One message to the kernel, and words for the error if it is refused. */
export interface Change {
  readonly what: string;
  /** Writes the one message. */
  readonly write: (to: MessageWriter) => void;
}

/** Messages that are sent, and what is to be done with the answers. */
interface Conversation {
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
function errnoOf(message: Message): number | undefined {
  return message.type === NLMSG_ERROR ? -message.payload.readInt32LE(0) : undefined;
}

/**
 * A netlink socket for requests (rtnetlink unless another protocol is given), bound to the network namespace that is
 * current when it is opened; it stays there, so a socket opened inside {@link inNetns} serves that namespace from
 * anywhere.
 */
export class RtSocket {
  private readonly raw: RawNetlinkSocket;
  /** Few at a time: a batch is one. */
  private pending: Pending[] = [];
  private seq = 1;
  private lastDump: Promise<void> = Promise.resolve();
  private readonly fd: number | undefined;
  /** What a thread of the pool is sending. */
  private aside: Promise<void> | undefined;
  private closed = false;
  private isWide = false;

  constructor(protocol = NETLINK_ROUTE) {
    const { socket, fd } = openGuarded(() => new RawNetlinkSocket(protocol));
    this.raw = socket;
    this.fd = fd;
    this.raw.unref();
    this.raw.on('message', (data) => this.receive(data));
    this.raw.on('error', (error) =>
      this.failAll(new TwillError('unavailable', `netlink answers were lost: ${error.message}`, error)),
    );
  }

  /** By which the kernel knows it: its answers, and what it tells others of changes made through it, say so. */
  get port(): number {
    return this.raw.address().port;
  }

  /** Sends one change and waits for the acknowledgement. @throws TwillError by errno */
  async request(change: Change): Promise<void> {
    const [error] = await this.batch([change]);
    if (error !== undefined) throw error;
  }

  /** Asks for one object, not for a list. @returns the kernel's answer @throws TwillError by errno */
  async ask(question: Change): Promise<Message> {
    let answer: Message | undefined;
    let refused = 0;
    const first = this.nextSeq(1);
    await this.converse(this.write(first, question).finish(NLM_F_ACK), {
      first,
      last: first,
      what: () => question.what,
      onMessage: (message, finish) => {
        const errno = errnoOf(message);
        if (errno === undefined) answer = message;
        else {
          refused = errno;
          finish();
        }
      },
    });
    if (refused !== 0) throw kernelError(question.what, refused);
    if (answer === undefined) throw new TwillError('kernel', `${question.what}: the kernel gave no answer`);
    return answer;
  }

  /**
   * Asks many things in few system calls. @returns per question the kernel's answer, or its refusal
   */
  async askEach(questions: readonly Change[]): Promise<(Message | TwillError)[]> {
    const answers: (Message | TwillError)[] = [];
    for (let start = 0; start < questions.length; start += BATCH) {
      const part = questions.slice(start, start + BATCH);
      const first = this.nextSeq(part.length);
      const writer = new MessageWriter(NLM_F_REQUEST).reset(first);
      for (const { write } of part) write(writer);
      await this.converse(writer.finish(), {
        first,
        last: first + part.length - 1,
        what: () => part[0]!.what,
        // Without NLM_F_ACK each gets one message, in order.
        onMessage: (message, finish) => {
          const errno = errnoOf(message);
          answers.push(
            errno === undefined ? message : kernelError(part[message.seq - first]?.what ?? '', errno),
          );
          if (message.seq === first + part.length - 1) finish();
        },
      });
    }
    return answers;
  }

  /**
   * Sends messages of which the kernel takes all or none, in one system call.
   * @param count of messages; the last but one is to ask for an acknowledgement
   * @returns their length in bytes @throws TwillError by the errno of the first refusal
   */
  async transaction(what: string, count: number, write: (to: MessageWriter) => void): Promise<number> {
    const first = this.nextSeq(count);
    const writer = new MessageWriter(NLM_F_REQUEST, 4096).reset(first);
    write(writer);
    const data = writer.finish();
    let refused = 0;
    await this.converse(data, {
      first,
      last: first + count - 1,
      aside: data.length > ASIDE_BYTES,
      what: () => what,
      onMessage: (message, finish) => {
        if (refused === 0) refused = errnoOf(message) ?? 0;
        // The first says that none were taken, without one for each.
        if (message.seq === first || message.seq === first + count - 2) finish();
      },
    });
    if (refused !== 0) throw kernelError(what, refused);
    return data.length;
  }

  /**
   * Sends changes in few system calls, in order; a refused one does not stop the others.
   * @returns per change undefined or the kernel's refusal
   */
  batch(changes: readonly Change[]): Promise<(TwillError | undefined)[]> {
    return this.batchOf(changes, (change) => change);
  }

  /** Like {@link batch}, for what `encode` makes of the items: of thousands only a few exist at a time. */
  async batchOf<T>(items: readonly T[], encode: (item: T) => Change): Promise<(TwillError | undefined)[]> {
    const results: (TwillError | undefined)[] = new Array(items.length);
    const aside = items.length > BATCH;
    // While the kernel works on one part, on another processor, the next is written, into memory of its own.
    const writers = [new MessageWriter(NLM_F_REQUEST), new MessageWriter(NLM_F_REQUEST)] as const;
    let underway = Promise.resolve();
    for (let start = 0, turn = 0; start < items.length; start += BATCH, turn ^= 1) {
      const end = Math.min(start + BATCH, items.length);
      const first = this.nextSeq(end - start);
      const writer = writers[turn as 0 | 1].reset(first);
      for (let index = start; index < end; index++) encode(items[index]!).write(writer);
      await underway;
      const last = first + end - start - 1;
      underway = this.converse(writer.finish(NLM_F_ACK), {
        first,
        last,
        aside,
        what: () => encode(items[start]!).what,
        onMessage: (message, finish) => {
          const index = start + message.seq - first;
          const errno = errnoOf(message) ?? 0;
          if (errno !== 0) results[index] = kernelError(encode(items[index]!).what, errno);
          if (message.seq === last) finish();
        },
      });
      // What fails is thrown where it is awaited.
      underway.catch(() => {});
    }
    await underway;
    return results;
  }

  private write(seq: number, change: Change): MessageWriter {
    const writer = new MessageWriter(NLM_F_REQUEST).reset(seq);
    change.write(writer);
    return writer;
  }

  /** Sends messages and waits until their answers are complete. */
  private converse(
    data: Buffer,
    { first, last, aside = false, what, onMessage }: Conversation,
  ): Promise<void> {
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

  /**
   * Lists objects: sends a dump request and calls `onMessage` for every answer. A dump that the kernel marks as
   * interrupted (the table changed meanwhile) is repeated, so `reset` is called before each attempt.
   */
  async dump(request: Change, reset: () => void, onMessage: (message: Message) => void): Promise<void> {
    const work = async (): Promise<void> => {
      for (let attempt = 0; ; attempt++) {
        reset();
        const interrupted = await this.dumpOnce(request, onMessage);
        if (!interrupted || attempt === DUMP_RETRIES) return;
      }
    };
    // The kernel refuses a second dump on a socket while one is under way (EBUSY).
    const mine = this.lastDump.then(work);
    this.lastDump = mine.catch(() => {});
    await mine;
  }

  /** @returns whether the kernel says that the dump was interrupted */
  private async dumpOnce(request: Change, onMessage: (message: Message) => void): Promise<boolean> {
    const first = this.nextSeq(1);
    let interrupted = false;
    await this.converse(this.write(first, request).finish(NLM_F_DUMP), {
      first,
      last: first,
      what: () => request.what,
      onMessage: (message, finish) => {
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        const errno = errnoOf(message);
        if (errno !== undefined) finish(kernelError(request.what, errno));
        else if (message.type === NLMSG_DONE) finish();
        else onMessage(message);
      },
    });
    return interrupted;
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

  private nextSeq(count: number): number {
    if (this.seq + count > 0x7fffffff) this.seq = 1;
    const first = this.seq;
    this.seq += count;
    return first;
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
    const sent = libc()
      .sendAside(this.fd, data)
      .then((length) => {
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
