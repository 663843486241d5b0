import type { Message } from '../../kernel/netlink/codec.ts';
import { RTM_DELLINK, RTNLGRP_LINK } from '../../kernel/netlink/constants.ts';
import { DirectSocket } from '../../kernel/netlink/direct.ts';
import { EventSocket } from '../../kernel/netlink/events.ts';
import { deletedLinksOnly } from '../../kernel/netlink/filter.ts';
import { deleteLinkGroup, parseLink, setLink, syncCarrier } from '../../kernel/netlink/links.ts';
import { isTwillError, TwillError } from '../../model/error.ts';

/** Devices of this group ("twil" as a number) are about to be deleted. */
const DOOMED_GROUP = 0x7477696c;
/** Deletions under way at a time: each holds one of the four threads of the pool. */
const LANES = 3;
const ATTEMPTS = 3;

interface Doomed {
  readonly name: string;
  readonly index: number;
  readonly attempt: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Deletes devices of the namespace it was made in. The kernel takes a device out of every list within a millisecond and
 * says so, but then waits for an RCU grace period or two, 20 ms and more, before it answers: so a deletion counts as
 * done when the kernel has announced it, and devices that are asked for while all lanes wait are deleted together.
 */
export class LinkReaper {
  private readonly idle = Array.from({ length: LANES }, () => new DirectSocket());
  /** Asks for devices: a process that has no descriptor left must still find what it has to undo. */
  private readonly looking = new DirectSocket();
  private readonly events: EventSocket;
  /** Asked for, and not yet told to the kernel. */
  private queue: Doomed[] = [];
  /** Told to the kernel, by device index. */
  private readonly running = new Map<number, Doomed[]>();
  private scheduled = false;
  private readonly others: (name: string) => void;

  /** @param others called with the name of each device that somebody else has deleted */
  constructor(others: (name: string) => void) {
    this.others = others;
    this.events = new EventSocket({
      groups: [RTNLGRP_LINK],
      filter: deletedLinksOnly,
      onEvent: (message) => this.noticed(message),
      // Lost announcements: the deletions' own answers come later.
      onLost: () => {},
    });
  }

  /**
   * Resolves when the device is gone, also when it was gone before.
   * @throws TwillError `kernel` when it cannot be deleted
   */
  delete(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const index = this.find(name);
      if (index === undefined) return resolve();
      this.queue.push({ name, index, attempt: 1, resolve, reject });
      this.schedule();
    });
  }

  close(): void {
    this.events.close();
    for (const socket of [...this.idle, this.looking]) socket.close();
  }

  /** @returns undefined when there is no such device @throws TwillError when it cannot be told */
  private find(name: string): number | undefined {
    let found: number | undefined;
    const [refusal] = this.looking.attempt([syncCarrier(name)], (message) => {
      found = parseLink(message)?.index;
    });
    if (refusal !== undefined && !isTwillError(refusal, 'not-found')) throw refusal;
    return found;
  }

  /** One turn of the event loop, so that what is asked for at once is deleted at once. */
  private schedule(): void {
    if (this.scheduled || this.idle.length === 0) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      const socket = this.idle.pop();
      if (socket !== undefined) void this.run(socket, this.queue.splice(0));
    });
  }

  private async run(socket: DirectSocket, batch: readonly Doomed[]): Promise<void> {
    for (const doomed of batch)
      this.running.set(doomed.index, [...(this.running.get(doomed.index) ?? []), doomed]);
    let failure: unknown;
    try {
      const refusals = await socket.applyAside([
        ...batch.map(({ index, name }) => setLink(index, { group: DOOMED_GROUP }, name)),
        deleteLinkGroup(DOOMED_GROUP),
      ]);
      failure = refusals.find((error) => !isTwillError(error, 'not-found'));
    } catch (error) {
      failure = error;
    }
    for (const doomed of batch) this.settle(doomed, failure);
    this.idle.push(socket);
    if (this.queue.length > 0) this.schedule();
  }

  private settle(doomed: Doomed, failure: unknown): void {
    const { name, index, attempt, resolve, reject } = doomed;
    this.running.delete(index);
    let stands: boolean;
    try {
      stands = this.find(name) === index;
    } catch (error) {
      reject(error); // it cannot be told now
      return;
    }
    if (!stands) resolve();
    else if (attempt < ATTEMPTS) this.queue.push({ ...doomed, attempt: attempt + 1 });
    else reject(failure ?? new TwillError('kernel', `the kernel does not delete ${name}`));
  }

  private noticed(message: Message): void {
    const link = message.type === RTM_DELLINK ? parseLink(message) : undefined;
    if (link === undefined) return;
    const doomed = this.running.get(link.index);
    if (doomed === undefined) this.others(link.name);
    else for (const { resolve } of doomed) resolve();
  }
}
