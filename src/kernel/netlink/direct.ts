import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { lastErrno, libc } from '../libc.ts';
import { type Message, MessageWriter, parseMessages } from './codec.ts';
import { AF_NETLINK, NETLINK_ROUTE, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR } from './constants.ts';
import type { Change } from './socket.ts';

const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const MSG_DONTWAIT = 0x40;
/** Answers are read on the spot, so one buffer serves all sockets. */
const answers = Buffer.alloc(65_536);

/**
 * An rtnetlink socket without an event loop. The kernel works on a message within send(2), and its answers are there
 * when that returns: so a few changes in a row are fastest sent and answered on the spot, and one that keeps the kernel
 * busy for long is sent on a thread of the pool. Bound to the network namespace that is current when it is opened.
 */
export class DirectSocket {
  private readonly fd: number;
  private seq = 0;

  constructor() {
    this.fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (this.fd < 0) throw kernelError('open a netlink socket', lastErrno());
  }

  /** Sends changes at once, in order, and waits for the kernel. @throws TwillError the first refusal, by errno */
  apply(changes: readonly Change[]): void {
    const refusal = this.attempt(changes).find((error) => error !== undefined);
    if (refusal !== undefined) throw refusal;
  }

  /**
   * Like {@link apply}, and a refused change does not stop the others.
   * @param onAnswer called with what the kernel says besides
   * @returns per change undefined or the refusal
   */
  attempt(changes: readonly Change[], onAnswer?: (message: Message) => void): (TwillError | undefined)[] {
    const first = this.seq + 1;
    const data = this.encode(changes);
    if (Number(libc().send(this.fd, data, data.length, 0)) !== data.length)
      throw kernelError(changes[0]?.what ?? 'send to netlink', lastErrno());
    return this.receive(changes, first, onAnswer);
  }

  /**
   * Sends changes that take long, without holding up anything else; a refused one does not stop the others. One call at
   * a time.
   * @returns the refusals
   */
  async applyAside(changes: readonly Change[]): Promise<TwillError[]> {
    const first = this.seq + 1;
    const data = this.encode(changes);
    if ((await libc().sendAside(this.fd, data)) !== data.length)
      throw new TwillError('kernel', `netlink refused ${changes[0]?.what ?? 'a request'}`);
    return this.receive(changes, first).filter((error) => error !== undefined);
  }

  private encode(changes: readonly Change[]): Buffer {
    const writer = new MessageWriter(NLM_F_REQUEST | NLM_F_ACK).reset(this.seq + 1);
    for (const { write } of changes) write(writer);
    this.seq += changes.length;
    return writer.finish();
  }

  private receive(
    changes: readonly Change[],
    first: number,
    onAnswer?: (message: Message) => void,
  ): (TwillError | undefined)[] {
    const refusals: (TwillError | undefined)[] = changes.map(() => undefined);
    for (;;) {
      const length = Number(libc().recv(this.fd, answers, answers.length, MSG_DONTWAIT));
      if (length <= 0) return refusals;
      for (const message of parseMessages(answers.subarray(0, length))) {
        const { type, seq, payload } = message;
        if (type !== NLMSG_ERROR) onAnswer?.(message);
        const change = changes[seq - first];
        const errno = type === NLMSG_ERROR ? -payload.readInt32LE(0) : 0;
        if (change !== undefined && errno !== 0) refusals[seq - first] = kernelError(change.what, errno);
      }
    }
  }

  close(): void {
    libc().close(this.fd);
  }
}
