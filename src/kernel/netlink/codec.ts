import { endianness } from 'node:os';
import { TwillError } from '../../model/error.ts';

// Netlink speaks host byte order. Every machine Kubernetes runs on in practice except s390x is little-endian, and a
// codec that reads both would be twice the code for a path nobody can test.
if (endianness() !== 'LE') throw new TwillError('internal', 'Twill runs on little-endian machines only');

const HEADER = 16;
const align = (length: number): number => (length + 3) & ~3;

/**
 * Writes one netlink message (struct nlmsghdr, a fixed struct, then attributes) in host byte order.
 * The sequence number is filled in by the socket that sends it.
 */
export class MessageWriter {
  private buffer: Buffer;
  private length = HEADER;
  private readonly nests: number[] = [];

  constructor(type: number, flags: number, capacity = 192) {
    // From Node's pool: thousands of messages of their own memory each cost more than their making.
    this.buffer = Buffer.allocUnsafe(capacity).fill(0);
    this.put16(4, type);
    this.put16(6, flags);
  }

  // Buffer's own methods check what is certain here, at several times the cost.
  private put16(at: number, value: number): void {
    this.buffer[at] = value;
    this.buffer[at + 1] = value >> 8;
  }

  private put32(at: number, value: number): void {
    this.put16(at, value);
    this.put16(at + 2, value >> 16);
  }

  private put(at: number, bytes: ArrayLike<number>): void {
    for (let index = 0; index < bytes.length; index++) this.buffer[at + index] = bytes[index]!;
  }

  private reserve(bytes: number): number {
    const at = this.length;
    const end = at + align(bytes);
    if (end > this.buffer.length) {
      const grown = Buffer.alloc(Math.max(end, this.buffer.length * 2));
      this.buffer.copy(grown, 0, 0, at);
      this.buffer = grown;
    }
    this.length = end;
    return at;
  }

  /** Appends a fixed struct (ifinfomsg, rtmsg, …) as raw bytes. */
  struct(bytes: ArrayLike<number>): this {
    this.put(this.reserve(bytes.length), bytes);
    return this;
  }

  bytes(type: number, value: ArrayLike<number>): this {
    const at = this.reserve(4 + value.length);
    this.put16(at, 4 + value.length);
    this.put16(at + 2, type);
    this.put(at + 4, value);
    return this;
  }

  u8(type: number, value: number): this {
    return this.bytes(type, [value]);
  }

  u16(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value & 255, value >> 8));
  }

  /** A 16-bit value in network byte order, as the kernel keeps ports. */
  u16be(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value >> 8, value & 255));
  }

  u32(type: number, value: number): this {
    const at = this.reserve(8);
    this.put16(at, 8);
    this.put16(at + 2, type);
    this.put32(at + 4, value);
    return this;
  }

  string(type: number, value: string): this {
    return this.bytes(type, Buffer.from(`${value}\0`));
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

  /** The finished message; the writer must not be used afterwards. */
  finish(): Buffer {
    if (this.nests.length > 0) throw new TwillError('internal', 'netlink attribute left open');
    this.put32(0, this.length);
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

/** Attribute type to its bytes; the nested and byte-order flags are stripped. A repeated type keeps the last. */
export type Attributes = Map<number, Buffer>;

export function parseAttributes(data: Buffer, offset = 0): Attributes {
  const attributes: Attributes = new Map();
  let at = offset;
  while (at + 4 <= data.length) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) break;
    attributes.set(data.readUInt16LE(at + 2) & 0x3fff, data.subarray(at + 4, at + length));
    at += align(length);
  }
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
