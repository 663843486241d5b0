import { TwillError } from '../../model/error.ts';
import { kernelError } from '../errno.ts';
import { lastErrno, libc } from '../libc.ts';
import { type Message, MessageWriter, parseMessages } from './codec.ts';
import {
  AF_NETLINK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './constants.ts';
import { type Change, DUMP_RETRIES } from './socket.ts';

const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
/** The longest part that the kernel makes of a list (netlink_recvmsg); it makes them as long as what is read into. */
const PART = 32_768;

/**
 * A netlink socket for one long list. The kernel looks for the next part of a list while one is read (netlink_dump), of a
 * set of nftables from its beginning: so parts are read on a thread of the pool, each while the one before it is looked
 * at here, and everything else in the process has its turn in between. Bound to the network namespace that is current
 * when it is opened.
 */
export class ListingSocket {
  private readonly fd: number;
  private readonly parts = [Buffer.alloc(PART), Buffer.alloc(PART)] as const;
  private seq = 0;

  constructor(protocol: number) {
    this.fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (this.fd < 0) throw kernelError('open a netlink socket', lastErrno());
  }

  /**
   * Sends a dump request and calls `onMessage` for every answer. A dump that the kernel marks as interrupted is repeated,
   * so `reset` is called before each attempt. @throws TwillError by errno
   */
  async list(request: Change, reset: () => void, onMessage: (message: Message) => void): Promise<void> {
    for (let attempt = 0; attempt <= DUMP_RETRIES; attempt++) {
      reset();
      if (!(await this.listOnce(request, onMessage))) return;
    }
  }

  close(): void {
    libc().close(this.fd);
  }

  /** @returns whether the kernel says that the dump was interrupted */
  private async listOnce(request: Change, onMessage: (message: Message) => void): Promise<boolean> {
    const writer = new MessageWriter(NLM_F_REQUEST).reset(++this.seq);
    request.write(writer);
    const data = writer.finish(NLM_F_DUMP);
    if ((await libc().sendAside(this.fd, data)) !== data.length)
      throw new TwillError('kernel', `netlink refused to ${request.what}`);
    let interrupted = false;
    let coming = this.read(0);
    for (let turn = 1; ; turn ^= 1) {
      const part = await coming;
      if (part.length === 0)
        throw new TwillError('unavailable', `netlink answers were lost: ${request.what}`);
      const messages = [...parseMessages(part)];
      const last = messages.find(({ type }) => type === NLMSG_DONE || type === NLMSG_ERROR);
      // What is under way writes into the other part: it has to have ended before anything is thrown.
      if (last === undefined) coming = this.read(turn as 0 | 1);
      try {
        for (const message of messages) {
          if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
          if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) onMessage(message);
        }
      } catch (error) {
        if (last === undefined) await coming;
        throw error;
      }
      if (last?.type === NLMSG_ERROR) throw kernelError(request.what, -last.payload.readInt32LE(0));
      if (last !== undefined) return interrupted;
    }
  }

  /** @returns the next part; empty when there is none */
  private async read(turn: 0 | 1): Promise<Buffer> {
    const part = this.parts[turn];
    return part.subarray(0, Math.max(0, await libc().recvAside(this.fd, part)));
  }
}
