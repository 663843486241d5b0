import { isTwillError } from '../model/error.ts';
import { deleteLinkGroup, setLink } from './netlink/links.ts';
import type { RtSocket } from './netlink/socket.ts';

/** Devices of this group ("twil" as a number) are about to be deleted. */
const DOOMED_GROUP = 0x7477696c;

interface Waiting {
  readonly name: string;
  done(error: unknown): void;
}

/**
 * Deletes devices. The kernel waits for a grace period of some 20 ms for each deletion, so those that are asked for
 * while one is under way are deleted together.
 */
export class LinkReaper {
  private readonly socket: RtSocket;
  private waiting: Waiting[] = [];
  private running = false;

  constructor(socket: RtSocket) {
    this.socket = socket;
  }

  /** Resolves when the device is gone, also when it was gone before. */
  delete(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ name, done: (error) => (error === undefined ? resolve() : reject(error)) });
      if (!this.running) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.running = true;
    // One turn of the event loop, so that what was asked for at once is deleted at once.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0);
      const error = await this.deleteAll(batch.map(({ name }) => name)).catch((cause: unknown) => cause);
      for (const { done } of batch) done(error);
    }
    this.running = false;
  }

  /** @returns the kernel's refusal, if there was one other than that a device is gone */
  private async deleteAll(names: readonly string[]): Promise<unknown> {
    const results = await this.socket.batch([
      ...names.map((name) => setLink(0, { name, group: DOOMED_GROUP }, name)),
      deleteLinkGroup(DOOMED_GROUP),
    ]);
    return results.find((error) => error !== undefined && !isTwillError(error, 'not-found'));
  }
}
