import { listAddresses } from '../kernel/netlink/addresses.ts';
import { RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR } from '../kernel/netlink/constants.ts';
import { EventSocket } from '../kernel/netlink/events.ts';
import { RtSocket } from '../kernel/netlink/socket.ts';
import type { Family } from '../model/address.ts';
import { describeError } from '../model/error.ts';
import { coalesce } from '../process/coalesce.ts';
import { type Log, LogLimiter } from '../process/log.ts';

const RETRY_MS = 1000;

/**
 * The addresses of this network namespace, followed. Those of devices without carrier are among them: the node keeps
 * answering at them, while node:os leaves them out, and nothing would tell of it when the carrier is back.
 */
export class NodeAddresses {
  private readonly log: Log;
  private readonly requests = new RtSocket();
  private readonly events: EventSocket;
  private readonly limiter = new LogLimiter();
  private readonly look = coalesce(() => this.read());
  private known: readonly { readonly family: Family; readonly text: string }[] = [];
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  /** Called after every change once set. */
  onChange: () => void = () => {};

  private constructor(log: Log) {
    this.log = log;
    const changed = (): void => this.lookAgain();
    // Listens before the first look, so that no change falls between the two.
    const groups = [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
    this.events = new EventSocket({ groups, onEvent: changed, onLost: changed });
  }

  /** @throws TwillError when the kernel does not tell the addresses */
  static async open(log: Log): Promise<NodeAddresses> {
    const addresses = new NodeAddresses(log);
    try {
      await addresses.look();
    } catch (error) {
      addresses.close();
      throw error;
    }
    return addresses;
  }

  /** Canonical texts; an address on two devices is there twice. */
  of(family: Family): string[] {
    return this.known.filter((address) => address.family === family).map(({ text }) => text);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.events.close();
    this.requests.close();
  }

  private lookAgain(): void {
    this.look().catch((error: unknown) => {
      if (this.closed) return;
      const reason = describeError(error);
      if (this.limiter.allow(reason) !== undefined)
        this.log.warn({ error: reason }, 'the node’s addresses cannot be read, trying again');
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.lookAgain(), RETRY_MS);
    });
  }

  private async read(): Promise<void> {
    const before = this.known;
    this.known = (await listAddresses(this.requests)).map(({ address }) => address);
    const texts = (list: typeof before): string => list.map(({ text }) => text).join();
    if (texts(before) !== texts(this.known)) this.onChange();
  }
}
