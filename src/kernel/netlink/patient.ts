import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { lastErrno, libc } from '../libc.ts';
import { parseMessages } from './codec.ts';
import { AF_NETLINK, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR } from './constants.ts';
import type { Change } from './socket.ts';

const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_ROUTE = 0;
const MSG_DONTWAIT = 0x40;
const RECEIVE_BYTES = 65_536;

/**
 * An rtnetlink socket for changes that keep the kernel busy for long. The kernel works on a message within send(2), so
 * an ordinary socket would stop the whole event loop for the 20 ms that the deletion of a device takes; this one sends
 * on a thread of the pool. Bound to the network namespace that is current when it is opened.
 */
export class PatientSocket {
  private readonly fd: number;
  private seq = 0;

  constructor() {
    this.fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (this.fd < 0) throw kernelError('open a netlink socket', lastErrno());
  }

  /**
   * Sends changes at once, in order; a refused one does not stop the others. One call at a time.
   * @returns the refusals
   */
  async apply(changes: readonly Change[]): Promise<TwillError[]> {
    const first = this.seq + 1;
    this.seq += changes.length;
    const data = Buffer.concat(
      changes.map(({ message }, index) => {
        message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_REQUEST | NLM_F_ACK, 6);
        message.writeUInt32LE(first + index, 8);
        return message;
      }),
    );
    if ((await libc().sendAside(this.fd, data)) !== data.length)
      throw new TwillError('kernel', `netlink refused ${changes[0]?.what ?? 'a request'}`);
    return this.receive(changes, first);
  }

  /** The answers are there when send returns. */
  private receive(changes: readonly Change[], first: number): TwillError[] {
    const refusals: TwillError[] = [];
    const buffer = Buffer.alloc(RECEIVE_BYTES);
    for (;;) {
      const length = Number(libc().recv(this.fd, buffer, buffer.length, MSG_DONTWAIT));
      if (length <= 0) return refusals;
      for (const { type, seq, payload } of parseMessages(buffer.subarray(0, length))) {
        const change = changes[seq - first];
        const errno = type === NLMSG_ERROR ? -payload.readInt32LE(0) : 0;
        if (change !== undefined && errno !== 0) refusals.push(kernelError(change.what, errno));
      }
    }
  }

  close(): void {
    libc().close(this.fd);
  }
}
