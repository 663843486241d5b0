import type { Family } from '../model/address.ts';
import { NETLINK_NETFILTER } from './netlink/constants.ts';
import { EventSocket } from './netlink/events.ts';
import { rulesWithoutElements } from './netlink/filter.ts';
import { NFNLGRP_NFTABLES, parseNotice } from './netlink/nftables.ts';

/** Others change several things in a row; and what one has just written oneself is told, too. */
const COLLECT_MS = 50;

/**
 * Tells, a moment after it, that somebody has changed chains or rules of a table, by the kernel's own
 * notification. What this process writes through nft is told as well.
 */
export class NftNotices {
  private readonly events: EventSocket;
  private readonly onChange: () => void;
  private timer: NodeJS.Timeout | undefined;

  constructor(family: Family, table: string, onChange: () => void) {
    this.onChange = onChange;
    this.events = new EventSocket({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      filter: rulesWithoutElements,
      onEvent: (message) => {
        // The family is in the first byte (struct nfgenmsg).
        if (message.payload[0] === family.af && parseNotice(message).table === table) this.again();
      },
      onLost: () => this.again(),
    });
  }

  /** Tells it once more, in a moment, or when so much time has passed. */
  again(ms = COLLECT_MS): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.onChange();
    }, ms).unref();
  }

  close(): void {
    clearTimeout(this.timer);
    this.events.close();
  }
}
