import { attributeString, type Message, type MessageWriter, parseAttributes } from './codec.ts';
import * as nl from './constants.ts';
import type { Change, RtSocket } from './socket.ts';

/** Numbers of include/uapi/linux/pkt_sched.h, pkt_cls.h and tc_act/tc_mirred.h. */
const TC_H_ROOT = 0xffffffff;
const TC_H_INGRESS = 0xfffffff1;
const INGRESS_HANDLE = 0xffff0000;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
const TC_LINKLAYER_ETHERNET = 1;
const TCA_U32_SEL = 5;
const TCA_U32_ACT = 7;
const TC_U32_TERMINAL = 1;
const TCA_ACT_KIND = 1;
const TCA_ACT_OPTIONS = 2;
const TCA_MIRRED_PARMS = 2;
const TCA_EGRESS_REDIR = 1;
const TC_ACT_STOLEN = 4;
const ETH_P_ALL_BE = 0x0300;
const MAX_U32 = 0xffffffff;

/** struct tcmsg */
function tcmsg(index: number, handle: number, parent: number, info = 0): Buffer {
  const struct = Buffer.alloc(20);
  struct.writeInt32LE(index, 4);
  struct.writeUInt32LE(handle >>> 0, 8);
  struct.writeUInt32LE(parent >>> 0, 12);
  struct.writeUInt32LE(info >>> 0, 16);
  return struct;
}

/** A token bucket. `rate` is in bytes per second, `burst` and `limit` (the longest queue) in bytes. */
export interface TokenBucket {
  readonly rate: number;
  readonly burst: number;
  readonly limit: number;
}

/** Puts a token bucket filter at a device's root, or changes the one that is there. */
export function setTokenBucket(index: number, { rate, burst, limit }: TokenBucket): Change {
  const flags = nl.NLM_F_CREATE | nl.NLM_F_REPLACE;
  // struct tc_tbf_qopt: rate and peakrate (struct tc_ratespec, 12 bytes each), limit, buffer, mtu. With a link layer
  // given the kernel needs no rate table, and with TCA_TBF_BURST no buffer in clock ticks.
  const options = Buffer.alloc(36);
  options.writeUInt8(TC_LINKLAYER_ETHERNET, 1);
  options.writeUInt32LE(Math.min(rate, MAX_U32), 8);
  options.writeUInt32LE(Math.min(limit, MAX_U32), 24);
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_NEWQDISC, flags).struct(tcmsg(index, 0, TC_H_ROOT));
    to.string(TCA_KIND, 'tbf').begin(TCA_OPTIONS).bytes(TCA_TBF_PARMS, options);
    if (rate > MAX_U32) {
      const wide = Buffer.alloc(8);
      wide.writeBigUInt64LE(BigInt(rate));
      to.bytes(TCA_TBF_RATE64, wide);
    }
    to.u32(TCA_TBF_BURST, Math.min(burst, MAX_U32)).end();
  };
  return { what: `set token bucket of device ${index}`, write };
}

/** Lets what a device receives be classified, which is where {@link redirectReceived} takes it. */
export function createIngress(index: number): Change {
  const struct = tcmsg(index, INGRESS_HANDLE, TC_H_INGRESS);
  return {
    what: `create ingress of device ${index}`,
    write: (to) => to.message(nl.RTM_NEWQDISC, nl.NLM_F_CREATE).struct(struct).string(TCA_KIND, 'ingress'),
  };
}

/** Takes the classification of received packets away, with all that {@link redirectReceived} made. */
export function deleteIngress(index: number): Change {
  const struct = tcmsg(index, INGRESS_HANDLE, TC_H_INGRESS);
  return {
    what: `delete ingress of device ${index}`,
    write: (to) => to.message(nl.RTM_DELQDISC).struct(struct),
  };
}

/** Sends everything a device receives out through another device. */
export function redirectReceived(index: number, target: number): Change {
  const info = (1 << 16) | ETH_P_ALL_BE;
  const flags = nl.NLM_F_CREATE | nl.NLM_F_EXCL;
  // struct tc_u32_sel with one key that matches everything.
  const selector = Buffer.alloc(32);
  selector.writeUInt8(TC_U32_TERMINAL, 0);
  selector.writeUInt8(1, 2);
  // struct tc_mirred: tc_gen (index, capab, action, refcnt, bindcnt), eaction, ifindex.
  const mirred = Buffer.alloc(28);
  mirred.writeInt32LE(TC_ACT_STOLEN, 8);
  mirred.writeInt32LE(TCA_EGRESS_REDIR, 20);
  mirred.writeUInt32LE(target, 24);
  const write = (to: MessageWriter): void => {
    to.message(nl.RTM_NEWTFILTER, flags).struct(tcmsg(index, 0, INGRESS_HANDLE, info));
    to.string(TCA_KIND, 'u32').begin(TCA_OPTIONS).bytes(TCA_U32_SEL, selector).begin(TCA_U32_ACT).begin(1);
    to.string(TCA_ACT_KIND, 'mirred').begin(TCA_ACT_OPTIONS).bytes(TCA_MIRRED_PARMS, mirred).end();
    to.end().end().end();
  };
  return { what: `redirect what device ${index} receives`, write };
}

/** A queueing discipline as it stands. `rate` and `limit` are a token bucket's, in bytes per second and bytes. */
export interface Qdisc {
  readonly index: number;
  readonly kind: string;
  readonly root: boolean;
  readonly rate: number | undefined;
  readonly limit: number | undefined;
}

function parseBucket(options: Buffer | undefined): Pick<Qdisc, 'rate' | 'limit'> {
  const attributes = parseAttributes(options ?? Buffer.alloc(0));
  const wide = attributes.get(TCA_TBF_RATE64);
  const parameters = attributes.get(TCA_TBF_PARMS);
  const rate = wide === undefined ? parameters?.readUInt32LE(8) : Number(wide.readBigUInt64LE(0));
  return { rate, limit: parameters?.readUInt32LE(24) };
}

function parseQdisc({ type, payload }: Message): Qdisc | undefined {
  if (type !== nl.RTM_NEWQDISC || payload.length < 20) return undefined;
  const attributes = parseAttributes(payload, 20);
  const kind = attributeString(attributes.get(TCA_KIND)) ?? '';
  return {
    index: payload.readInt32LE(4),
    kind,
    root: payload.readUInt32LE(12) === TC_H_ROOT,
    ...(kind === 'tbf' ? parseBucket(attributes.get(TCA_OPTIONS)) : { rate: undefined, limit: undefined }),
  };
}

export function listQdiscs(socket: RtSocket): Promise<Qdisc[]> {
  return socket.list({
    request: {
      what: 'list queueing disciplines',
      write: (to) => to.message(nl.RTM_GETQDISC).struct(tcmsg(0, 0, 0)),
    },
    read: parseQdisc,
  });
}
