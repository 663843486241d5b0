/**
 * The kernel's connection tracking table over ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
 */

import { addressFromBytes, type Family } from '../model/address.ts';
import { isTwillError } from '../model/error.ts';
import type { Flow, Protocol } from '../model/flow.ts';
import { type Attributes, type MessageWriter, parseAttributes } from './netlink/codec.ts';
import { NETLINK_NETFILTER } from './netlink/constants.ts';
import { RtSocket } from './netlink/socket.ts';

const GET = (1 << 8) | 1;
const DELETE = (1 << 8) | 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_FILTER_ORIG_FLAGS = 1;
/** CTA_FILTER_F_CTA_PROTO_NUM and …_DST_PORT of the kernel's nf_internals.h. */
const FILTER_PROTOCOL_AND_PORT = (1 << 3) | (1 << 5);
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
/** Source of IPv4 and IPv6; the destination follows. */
const CTA_IP_SRC = { ipv4: 1, ipv6: 3 } as const;

const CTA_STATUS = 3;
/** Bit of CTA_STATUS (enum ip_conntrack_status). */
const IPS_SEEN_REPLY = 2;

const protocols: Readonly<Record<number, Protocol>> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

/** What clients sent to: a protocol's port. */
export interface FlowPort {
  readonly protocol: 'UDP' | 'SCTP';
  readonly port: number;
}

export interface FlowSelection {
  /** Lets the kernel leave out what was sent elsewhere; kernels before 5.8 list it all the same. */
  readonly only?: FlowPort;
  /** TCP connections as well, which may be many. */
  readonly tcp?: boolean;
}

function writeListRequest(to: MessageWriter, family: Family, only: FlowPort | undefined): void {
  to.message(GET).struct(nfgenmsg(family));
  if (only === undefined) return;
  const number = Object.entries(protocols).find(([, name]) => name === only.protocol)?.[0];
  to.begin(CTA_TUPLE_ORIG).begin(CTA_TUPLE_PROTO).u8(CTA_PROTO_NUM, Number(number));
  to.u16be(CTA_PROTO_DST_PORT, only.port).end().end();
  to.begin(CTA_FILTER).u32(CTA_FILTER_ORIG_FLAGS, FILTER_PROTOCOL_AND_PORT).end();
}

/** A flow as the kernel lists it, with what is needed to delete exactly this one. */
export interface ListedFlow extends Flow {
  readonly identity: {
    readonly original: Buffer;
    readonly id: Buffer | undefined;
    readonly zone: Buffer | undefined;
  };
}

function nfgenmsg(family: Family): Buffer {
  return Buffer.from([family.af, 0, 0, 0]);
}

interface End {
  readonly address: string;
  readonly port: number;
}

function end(tuple: Attributes, family: Family, side: 'source' | 'destination'): End | undefined {
  const ip = tuple.get(CTA_TUPLE_IP);
  const proto = tuple.get(CTA_TUPLE_PROTO);
  if (ip === undefined || proto === undefined) return undefined;
  const address = parseAttributes(ip).get(CTA_IP_SRC[family.name] + (side === 'destination' ? 1 : 0));
  const port = parseAttributes(proto).get(side === 'source' ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT);
  if (address === undefined || port === undefined) return undefined;
  return { address: addressFromBytes(address).text, port: port.readUInt16BE(0) };
}

function parseFlow(payload: Buffer, family: Family, tcp: boolean): ListedFlow | undefined {
  if (payload[0] !== family.af) return undefined;
  const attributes = parseAttributes(payload, 4);
  const original = attributes.get(CTA_TUPLE_ORIG);
  const reply = attributes.get(CTA_TUPLE_REPLY);
  if (original === undefined || reply === undefined) return undefined;
  const tuple = parseAttributes(original);
  const number = parseAttributes(tuple.get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0)).get(CTA_PROTO_NUM)?.[0];
  const protocol = number === undefined ? undefined : protocols[number];
  if (protocol === undefined || (protocol === 'TCP' && !tcp)) return undefined;
  const destination = end(tuple, family, 'destination');
  const backend = end(parseAttributes(reply), family, 'source');
  if (destination === undefined || backend === undefined) return undefined;
  const identity = { original, id: attributes.get(CTA_ID), zone: attributes.get(CTA_ZONE) };
  const replied = ((attributes.get(CTA_STATUS)?.readUInt32BE(0) ?? 0) & IPS_SEEN_REPLY) !== 0;
  return { protocol, destination, backend, replied, identity };
}

/** Tracked flows of the network namespace the process is in. */
export class Conntrack {
  private readonly socket = new RtSocket(NETLINK_NETFILTER);

  /** UDP and SCTP flows, and TCP connections where they are asked for. @throws TwillError by errno */
  list(
    family: Family,
    wanted: (flow: Flow) => boolean,
    { only, tcp = false }: FlowSelection = {},
  ): Promise<ListedFlow[]> {
    return this.socket.list({
      request: {
        what: 'list tracked connections',
        write: (to) => writeListRequest(to, family, only),
      },
      read: ({ payload }) => {
        const flow = parseFlow(payload, family, tcp);
        // The buffers are views of a receive buffer: only those of flows that are kept are copied.
        return flow !== undefined && wanted(flow) ? { ...flow, identity: copy(flow.identity) } : undefined;
      },
    });
  }

  /** Deletes flows; one that is gone already is fine. @returns how many were deleted */
  async delete(family: Family, flows: readonly ListedFlow[]): Promise<number> {
    const results = await this.socket.batchOf(flows, ({ identity }) => ({
      what: 'delete a tracked connection',
      write: (to) => {
        to.message(DELETE).struct(nfgenmsg(family));
        to.bytes(CTA_TUPLE_ORIG | 0x8000, identity.original);
        if (identity.id !== undefined) to.bytes(CTA_ID, identity.id);
        if (identity.zone !== undefined) to.bytes(CTA_ZONE, identity.zone);
      },
    }));
    const failed = results.find((error) => error !== undefined && !isTwillError(error, 'not-found'));
    if (failed !== undefined) throw failed;
    return flows.length - results.filter((error) => error !== undefined).length;
  }

  close(): void {
    this.socket.close();
  }
}

function copy(identity: ListedFlow['identity']): ListedFlow['identity'] {
  return {
    original: Buffer.from(identity.original),
    id: identity.id && Buffer.from(identity.id),
    zone: identity.zone && Buffer.from(identity.zone),
  };
}
