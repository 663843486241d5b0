import type { Family } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { IptablesVariant } from './iptables.ts';
import { libc } from './libc.ts';
import { NETLINK_NETFILTER } from './netlink/constants.ts';
import { RtSocket } from './netlink/socket.ts';

/** What the proxy itself wrote between two readings of a stamp. */
export interface Written {
  /** Tables written, each in a transaction of its own. */
  readonly transactions: number;
  /** By how many entries the tables grew, as x_tables counts them. */
  readonly entries: number;
}

/** Something that changes whenever somebody changes rules, read in microseconds without listing any. */
export interface RulesStamp {
  read(): Promise<string>;
  /**
   * True when what the proxy wrote (into chains of its own only) explains how the stamp changed: nobody else wrote.
   * @param transactions written to both families, which nf_tables counts as one
   * @param entries by how many entries the stamp's family grew
   */
  explains(before: string, after: string, written: Written): boolean;
  close(): void;
}

const NFT_MSG_GETGEN = (10 << 8) | 16;

/** nf_tables counts its transactions (struct nftables_pernet, base_seq). */
class NftStamp implements RulesStamp {
  private readonly socket = new RtSocket(NETLINK_NETFILTER);

  async read(): Promise<string> {
    const { payload } = await this.socket.ask({
      what: 'read the nf_tables generation',
      write: (to) => to.message(NFT_MSG_GETGEN).struct([0, 0, 0, 0]),
    });
    // nfgenmsg, then NFTA_GEN_ID: 4 bytes of attribute header, 4 of number.
    return String(payload.readUInt32BE(8));
  }

  explains(before: string, after: string, { transactions }: Written): boolean {
    return Number(before) + transactions === Number(after);
  }

  close(): void {
    this.socket.close();
  }
}

const SO_GET_INFO = 64;
const SOCK_RAW = 3;
const RAW = 255;
/** struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size; ip6t_getinfo is the same. */
const INFO_BYTES = 84;
const HOOKS_AT = 32 + 4;
const ENTRIES_AT = HOOKS_AT + 20 + 20;

/**
 * x_tables has no counter of changes: number and size of a table's entries are taken, and where the built-in chains
 * begin and end, which stand before all others.
 */
class LegacyStamp implements RulesStamp {
  private readonly fd: number;
  private readonly level: number;
  private readonly tables: readonly string[];

  constructor(family: Family, tables: readonly string[]) {
    this.tables = tables;
    this.level = family.af === 2 ? 0 : 41;
    this.fd = libc().socket(family.af, SOCK_RAW, RAW);
    if (this.fd < 0) throw new TwillError('permission', 'cannot open a raw socket to watch the rules');
  }

  async read(): Promise<string> {
    const infos = this.tables.map((table) => this.info(table));
    const entries = infos.reduce((sum, info) => sum + info.readUInt32LE(ENTRIES_AT), 0);
    const hooks = infos.map((info) => info.toString('hex', HOOKS_AT, ENTRIES_AT)).join();
    const sizes = infos.map((info) => info.toString('hex', ENTRIES_AT)).join();
    return `${entries} ${hooks} ${sizes}`;
  }

  explains(before: string, after: string, written: Written): boolean {
    if (written.transactions === 0) return before === after;
    const [entries, hooks] = before.split(' ');
    const [entriesNow, hooksNow] = after.split(' ');
    return hooks === hooksNow && Number(entries) + written.entries === Number(entriesNow);
  }

  close(): void {
    libc().close(this.fd);
  }

  /** All zero for a table that is not there. */
  private info(table: string): Buffer {
    const value = Buffer.alloc(INFO_BYTES);
    value.write(table);
    const failed =
      libc().getsockopt(this.fd, this.level, SO_GET_INFO, value, Uint32Array.of(INFO_BYTES)) !== 0;
    return failed ? Buffer.alloc(INFO_BYTES) : value;
  }
}

/**
 * @param tables those that matter, where they can be told apart
 * @throws TwillError `permission`
 */
export function openRulesStamp(
  family: Family,
  variant: IptablesVariant,
  tables: readonly string[] = ['nat', 'filter'],
): RulesStamp {
  return variant === 'nft' ? new NftStamp() : new LegacyStamp(family, tables);
}
