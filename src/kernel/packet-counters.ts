/** Named packet counters of a network namespace (include/uapi/linux/netfilter/nfnetlink_acct.h), as `nfacct` shows them. */
import { isTwillError } from '../model/error.ts';
import { parseAttributes } from './netlink/codec.ts';
import { NETLINK_NETFILTER, NLM_F_CREATE, NLM_F_EXCL } from './netlink/constants.ts';
import { RtSocket } from './netlink/socket.ts';

const NEW = (7 << 8) | 0;
const GET = (7 << 8) | 1;
const DELETE = (7 << 8) | 3;
const NFACCT_NAME = 1;
const NFACCT_PKTS = 2;

/** struct nfgenmsg of no family. */
const nfgenmsg = [0, 0, 0, 0];

export class PacketCounters {
  private readonly socket = new RtSocket(NETLINK_NETFILTER);

  /** Makes a counter, unless it is there. @throws TwillError by errno: `kernel` where the kernel has none */
  async ensure(name: string): Promise<void> {
    try {
      await this.socket.request({
        what: `make the packet counter ${name}`,
        write: (to) => {
          to.message(NEW, NLM_F_CREATE | NLM_F_EXCL)
            .struct(nfgenmsg)
            .string(NFACCT_NAME, name);
        },
      });
    } catch (error) {
      if (!isTwillError(error, 'exists')) throw error;
    }
  }

  /** @returns packets counted so far; undefined when there is no such counter @throws TwillError by errno */
  async read(name: string): Promise<number | undefined> {
    try {
      const { payload } = await this.socket.ask({
        what: `read the packet counter ${name}`,
        write: (to) => {
          to.message(GET).struct(nfgenmsg).string(NFACCT_NAME, name);
        },
      });
      const packets = parseAttributes(payload, 4).get(NFACCT_PKTS);
      return packets && Number(packets.readBigUInt64BE(0));
    } catch (error) {
      if (isTwillError(error, 'not-found')) return undefined;
      throw error;
    }
  }

  /** @returns false when it is not there, or rules count with it @throws TwillError by errno */
  async remove(name: string): Promise<boolean> {
    try {
      await this.socket.request({
        what: `remove the packet counter ${name}`,
        write: (to) => {
          to.message(DELETE).struct(nfgenmsg).string(NFACCT_NAME, name);
        },
      });
      return true;
    } catch (error) {
      if (isTwillError(error, 'not-found', 'conflict')) return false;
      throw error;
    }
  }

  close(): void {
    this.socket.close();
  }
}
