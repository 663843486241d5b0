import type { Family } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { IptablesVariant } from './iptables.ts';
import { libc } from './libc.ts';
import { MessageWriter } from './netlink/codec.ts';
import { NETLINK_NETFILTER, RtSocket } from './netlink/socket.ts';

/** Something that changes whenever somebody changes rules, read in microseconds without listing any. */
export interface RulesStamp {
  read(): Promise<string>;
  close(): void;
}

const NFT_MSG_GETGEN = (10 << 8) | 16;

/** nf_tables counts its transactions (struct nftables_pernet, base_seq). */
class NftStamp implements RulesStamp {
  private readonly socket = new RtSocket(NETLINK_NETFILTER);

  async read(): Promise<string> {
    const message = new MessageWriter(NFT_MSG_GETGEN, 0).struct(Buffer.alloc(4)).finish();
    const { payload } = await this.socket.ask({ message, what: 'read the nf_tables generation' });
    // nfgenmsg, then NFTA_GEN_ID: 4 bytes of attribute header, 4 of number.
    return payload.subarray(8, 12).toString('hex');
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

/** x_tables has no counter of changes: number and size of a table's entries, and where each hook begins. */
class LegacyStamp implements RulesStamp {
  private readonly fd: number;
  private readonly level: number;

  constructor(family: Family) {
    this.level = family.af === 2 ? 0 : 41;
    this.fd = libc().socket(family.af, SOCK_RAW, RAW);
    if (this.fd < 0) throw new TwillError('permission', 'cannot open a raw socket to watch the rules');
  }

  async read(): Promise<string> {
    return ['nat', 'filter'].map((table) => this.info(table)).join(' ');
  }

  close(): void {
    libc().close(this.fd);
  }

  private info(table: string): string {
    const value = Buffer.alloc(INFO_BYTES);
    value.write(table);
    const failed =
      libc().getsockopt(this.fd, this.level, SO_GET_INFO, value, Uint32Array.of(INFO_BYTES)) !== 0;
    return failed ? 'none' : value.subarray(32).toString('base64');
  }
}

/** @throws TwillError `permission` */
export function openRulesStamp(family: Family, variant: IptablesVariant): RulesStamp {
  return variant === 'nft' ? new NftStamp() : new LegacyStamp(family);
}
