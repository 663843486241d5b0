import type { Family } from '../model/address.ts';
import { TwillError } from '../model/error.ts';
import type { IptablesVariant } from './iptables.ts';
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
const RAW = 255;
/** struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size; ip6t_getinfo is the same. */
const INFO_BYTES = 84;

type Socket = (domain: number, type: number, protocol: number) => number;
type GetSockOpt = (fd: number, level: number, option: number, value: Buffer, length: Uint32Array) => number;

/** x_tables has no counter of changes: number and size of a table's entries, and where each hook begins. */
class LegacyStamp implements RulesStamp {
  private readonly fd: number;
  private readonly level: number;
  private readonly getsockopt: GetSockOpt;
  private readonly closeFd: (fd: number) => number;

  constructor(family: Family, koffi: typeof import('koffi')['default']) {
    const libc = koffi.load('libc.so.6');
    const socket = libc.func('int socket(int domain, int type, int protocol)') as Socket;
    this.getsockopt = libc.func(
      'int getsockopt(int fd, int level, int option, _Inout_ uint8_t *value, _Inout_ uint32_t *length)',
    ) as GetSockOpt;
    this.closeFd = libc.func('int close(int fd)') as (fd: number) => number;
    this.level = family.af === 2 ? 0 : 41;
    this.fd = socket(family.af, 3, RAW);
    if (this.fd < 0) throw new TwillError('permission', 'cannot open a raw socket to watch the rules');
  }

  async read(): Promise<string> {
    return ['nat', 'filter'].map((table) => this.info(table)).join(' ');
  }

  close(): void {
    this.closeFd(this.fd);
  }

  private info(table: string): string {
    const value = Buffer.alloc(INFO_BYTES);
    value.write(table);
    const failed = this.getsockopt(this.fd, this.level, SO_GET_INFO, value, Uint32Array.of(INFO_BYTES)) !== 0;
    return failed ? 'none' : value.subarray(32).toString('base64');
  }
}

/** @throws TwillError `permission` */
export async function openRulesStamp(family: Family, variant: IptablesVariant): Promise<RulesStamp> {
  return variant === 'nft' ? new NftStamp() : new LegacyStamp(family, (await import('koffi')).default);
}
