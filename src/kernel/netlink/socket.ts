import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { type Message, MessageWriter } from './codec.ts';
import {
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
} from './constants.ts';
import { Conversations, errnoOf } from './conversations.ts';

/**
 * Messages in one send. The kernel handles a send synchronously and queues one reply per failure, so the size is
 * bounded by what fits the default receive buffer (208 KiB, about 768 bytes a reply) even if every message fails.
 */
const BATCH = 200;
/** A list that the kernel marks as interrupted is asked for again so often. */
export const DUMP_RETRIES = 5;
/** A transaction of more bytes keeps the kernel busy for long. */
const ASIDE_BYTES = 16_384;

/** One message to the kernel, and words for the error if it is refused. */
export interface Change {
  readonly what: string;
  /** Writes the one message. */
  readonly write: (to: MessageWriter) => void;
}

/** A list to be asked for: with {@link RtSocket.list}, or {@link RtSocket.each} one by one. */
export interface Listing<T> {
  readonly request: Change;
  /** What one answer says; undefined for those that are not meant. */
  readonly read: (answer: Message) => T | undefined;
}

/**
 * A netlink socket for requests (rtnetlink unless another protocol is given), bound to the network namespace that is
 * current when it is opened; it stays there, so a socket opened inside {@link inNetns} serves that namespace from
 * anywhere.
 */
export class RtSocket {
  private readonly conversations: Conversations;
  private lastList: Promise<void> = Promise.resolve();

  constructor(protocol = NETLINK_ROUTE) {
    this.conversations = new Conversations(protocol);
  }

  /** By which the kernel knows it: its answers, and what it tells others of changes made through it, say so. */
  get port(): number {
    return this.conversations.port;
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
    const first = this.conversations.nextSeq(1);
    await this.conversations.converse(this.write(first, question).finish(NLM_F_ACK), {
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
      const first = this.conversations.nextSeq(part.length);
      const writer = new MessageWriter(NLM_F_REQUEST).reset(first);
      for (const { write } of part) write(writer);
      await this.conversations.converse(writer.finish(), {
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
    const first = this.conversations.nextSeq(count);
    const writer = new MessageWriter(NLM_F_REQUEST, 4096).reset(first);
    write(writer);
    const data = writer.finish();
    let refused = 0;
    await this.conversations.converse(data, {
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
      const first = this.conversations.nextSeq(end - start);
      const writer = writers[turn as 0 | 1].reset(first);
      for (let index = start; index < end; index++) encode(items[index]!).write(writer);
      await underway;
      const last = first + end - start - 1;
      underway = this.conversations.converse(writer.finish(NLM_F_ACK), {
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

  /**
   * Lists objects, and keeps none: a node may have tens of thousands of routes. A list that the kernel marks as
   * interrupted (the table changed meanwhile) is asked for again, so `reset` is called before each attempt.
   */
  async each<T>(listing: Listing<T>, reset: () => void, onEntry: (entry: T) => void): Promise<void> {
    const work = async (): Promise<void> => {
      for (let attempt = 0; ; attempt++) {
        reset();
        const interrupted = await this.listOnce(listing, onEntry);
        if (!interrupted || attempt === DUMP_RETRIES) return;
      }
    };
    // The kernel refuses a second list on a socket while one is under way (EBUSY).
    const mine = this.lastList.then(work);
    this.lastList = mine.catch(() => {});
    await mine;
  }

  /** The whole list. @throws TwillError by errno */
  async list<T>(listing: Listing<T>): Promise<T[]> {
    let found: T[] = [];
    const reset = (): void => {
      found = [];
    };
    await this.each(listing, reset, (entry) => found.push(entry));
    return found;
  }

  /** @returns whether the kernel says that the list was interrupted */
  private async listOnce<T>({ request, read }: Listing<T>, onEntry: (entry: T) => void): Promise<boolean> {
    const first = this.conversations.nextSeq(1);
    let interrupted = false;
    await this.conversations.converse(this.write(first, request).finish(NLM_F_DUMP), {
      first,
      last: first,
      what: () => request.what,
      onMessage: (message, finish) => {
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        const errno = errnoOf(message);
        if (errno !== undefined) return finish(kernelError(request.what, errno));
        if (message.type === NLMSG_DONE) return finish();
        const entry = read(message);
        if (entry !== undefined) onEntry(entry);
      },
    });
    return interrupted;
  }

  close(): void {
    this.conversations.close();
  }
}
