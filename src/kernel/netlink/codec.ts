import { endianness } from 'node:os';
import { type Address, writeAddress, writeMac } from '../../model/address.ts';
import { TwillError } from '../../model/error.ts';

// Netlink speaks host byte order. Every machine Kubernetes runs on in practice except s390x is little-endian, and a
// codec that reads both would be twice the code for a path nobody can test.
if (endianness() !== 'LE') throw new TwillError('internal', 'Twill runs on little-endian machines only');

const HEADER = 16;
const align = (length: number): number => (length + 3) & ~3;

/**
 * Writes netlink messages (struct nlmsghdr, a fixed struct, then attributes) one behind the other in host byte order, as
 * one send takes them: thousands of buffers of their own would cost more than what is in them.
 */
export class MessageWriter {
  private buffer: Buffer;
  /** Where the message that is being written begins. */
  private start = 0;
  private length = 0;
  private seq = 1;
  private readonly flags: number;
  private readonly nests: number[] = [];

  /** @param flags NLM_F_* that every message has besides its own */
  constructor(flags = 0, capacity = 192) {
    this.flags = flags;
    this.buffer = Buffer.allocUnsafe(capacity);
  }

  /**
   * Begins anew, in the same memory: what {@link finish} gave must no longer be in use.
   * @param seq number of the first message; each following one has the next
   */
  reset(seq: number): this {
    this.seq = seq;
    this.start = 0;
    this.length = 0;
    return this;
  }

  /** Begins a message. @param flags NLM_F_* */
  message(type: number, flags = 0): this {
    this.close();
    this.start = this.reserve(HEADER);
    this.put16(this.start + 4, type);
    this.put16(this.start + 6, flags | this.flags);
    this.put32(this.start + 8, this.seq++);
    this.put32(this.start + 12, 0);
    return this;
  }

  private close(): void {
    if (this.nests.length > 0) throw new TwillError('internal', 'netlink attribute left open');
    if (this.length > this.start) this.put32(this.start, this.length - this.start);
  }

  // Buffer's own methods check what is certain here, at several times the cost.
  private put16(at: number, value: number): void {
    this.buffer[at] = value;
    this.buffer[at + 1] = value >> 8;
  }

  private put32(at: number, value: number): void {
    const { buffer } = this;
    buffer[at] = value;
    buffer[at + 1] = value >> 8;
    buffer[at + 2] = value >> 16;
    buffer[at + 3] = value >> 24;
  }

  private put(at: number, bytes: ArrayLike<number>): void {
    const { buffer } = this;
    const count = bytes.length;
    for (let index = 0; index < count; index++) buffer[at + index] = bytes[index]!;
  }

  /** The bytes up to the next multiple of four are zero. */
  private reserve(bytes: number): number {
    const at = this.length;
    const end = at + align(bytes);
    if (end > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, this.buffer.length * 2));
      this.buffer.copy(grown, 0, 0, at);
      this.buffer = grown;
    }
    for (let pad = at + bytes; pad < end; pad++) this.buffer[pad] = 0;
    this.length = end;
    return at;
  }

  private attribute(type: number, bytes: number): number {
    const at = this.reserve(4 + bytes);
    this.put16(at, 4 + bytes);
    this.put16(at + 2, type);
    return at + 4;
  }

  /** Appends a fixed struct (ifinfomsg, rtmsg, …) as raw bytes. */
  struct(bytes: ArrayLike<number>): this {
    this.put(this.reserve(bytes.length), bytes);
    return this;
  }

  bytes(type: number, value: ArrayLike<number>): this {
    this.put(this.attribute(type, value.length), value);
    return this;
  }

  u8(type: number, value: number): this {
    const at = this.attribute(type, 1);
    this.buffer[at] = value;
    return this;
  }

  u16(type: number, value: number): this {
    this.put16(this.attribute(type, 2), value);
    return this;
  }

  /** A 16-bit value in network byte order, as the kernel keeps ports. */
  u16be(type: number, value: number): this {
    return this.u16(type, ((value & 255) << 8) | (value >> 8));
  }

  u32(type: number, value: number): this {
    this.put32(this.attribute(type, 4), value);
    return this;
  }

  /** In network byte order, as nf_tables has all numbers. */
  u32be(type: number, value: number): this {
    const at = this.attribute(type, 4);
    const { buffer } = this;
    buffer[at] = value >>> 24;
    buffer[at + 1] = value >> 16;
    buffer[at + 2] = value >> 8;
    buffer[at + 3] = value;
    return this;
  }

  u64be(type: number, value: bigint): this {
    const at = this.attribute(type, 8);
    this.buffer.writeBigUInt64BE(value, at);
    return this;
  }

  address(type: number, value: Address): this {
    const at = this.attribute(type, value.family.bytes);
    writeAddress(value, this.buffer, at);
    return this;
  }

  /** @throws TwillError `invalid` */
  mac(type: number, value: string): this {
    const at = this.attribute(type, 6);
    writeMac(value, this.buffer, at);
    return this;
  }

  string(type: number, value: string): this {
    return this.bytes(type, Buffer.from(`${value}\0`));
  }

  /** The bytes of a string of one character a byte. */
  latin1(type: number, value: string): this {
    const at = this.attribute(type, value.length);
    const { buffer } = this;
    for (let index = 0; index < value.length; index++) buffer[at + index] = value.charCodeAt(index);
    return this;
  }

  /** Opens a nested attribute; everything until `end` is inside it. */
  begin(type: number): this {
    const at = this.reserve(4);
    this.put16(at + 2, type | 0x8000);
    this.nests.push(at);
    return this;
  }

  end(): this {
    const at = this.nests.pop();
    if (at === undefined) throw new TwillError('internal', 'netlink attribute closed twice');
    this.put16(at, this.length - at);
    return this;
  }

  /**
   * The finished messages, in the writer's own memory.
   * @param flags NLM_F_* that only the last message has
   */
  finish(flags = 0): Buffer {
    this.close();
    this.buffer[this.start + 6]! |= flags;
    this.buffer[this.start + 7]! |= flags >> 8;
    return this.buffer.subarray(0, this.length);
  }
}

/** A received message: the payload starts behind nlmsghdr. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly payload: Buffer;
}

/** Splits a datagram into messages. A message that claims more than is there ends the walk. */
export function* parseMessages(data: Buffer): Generator<Message> {
  let at = 0;
  while (at + HEADER <= data.length) {
    const length = data.readUInt32LE(at);
    if (length < HEADER || at + length > data.length) return;
    yield {
      type: data.readUInt16LE(at + 4),
      flags: data.readUInt16LE(at + 6),
      seq: data.readUInt32LE(at + 8),
      payload: data.subarray(at + HEADER, at + length),
    };
    at += align(length);
  }
}

/**
 * Goes through attributes; the nested and byte-order flags are stripped. Lists of many thousands are read with it: a
 * view of each attribute, and a map of them, take more than twice as long.
 */
export class AttributeWalk {
  type = 0;
  /** Where the value of this one begins in the data, and where it ends. */
  from = 0;
  to = 0;
  private readonly data: Buffer;
  private at: number;
  private readonly end: number;

  constructor(data: Buffer, at: number, end: number) {
    this.data = data;
    this.at = at;
    this.end = end;
  }

  /** @returns false behind the last one; one that claims more than is there ends the walk */
  next(): boolean {
    const { data, at, end } = this;
    if (at + 4 > end) return false;
    const length = data[at]! | (data[at + 1]! << 8);
    if (length < 4 || at + length > end) return false;
    this.type = (data[at + 2]! | (data[at + 3]! << 8)) & 0x3fff;
    this.from = at + 4;
    this.to = at + length;
    this.at = at + align(length);
    return true;
  }
}

/** Attribute type to its bytes. A repeated type keeps the last. */
export type Attributes = Map<number, Buffer>;

export function parseAttributes(data: Buffer, offset = 0): Attributes {
  const attributes: Attributes = new Map();
  const walk = new AttributeWalk(data, offset, data.length);
  while (walk.next()) attributes.set(walk.type, data.subarray(walk.from, walk.to));
  return attributes;
}

/** Text of a NUL-terminated string attribute. */
export function attributeString(value: Buffer | undefined): string | undefined {
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

export function attributeU32(value: Buffer | undefined): number | undefined {
  return value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : undefined;
}
