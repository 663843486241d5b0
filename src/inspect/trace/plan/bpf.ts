/** Programs of the match `bpf` (classic BPF, linux/filter.h), run on the packet's headers as the kernel runs them. */
import { addressBytes, parseAddress } from '../../../model/address.ts';
import type { Packet } from './packet.ts';
import { protocolNumbers } from './protocols.ts';

/** One instruction: `code jt jf k`. */
type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, operand: number];

const MOST_STEPS = 4096;

/** Reads what iptables-save prints: the number of instructions, and each behind a comma. */
export function parseProgram(text: string): Instruction[] {
  return text
    .split(',')
    .slice(1)
    .map((one) => one.trim().split(' ').map(Number) as unknown as Instruction);
}

/** The network header and the ports behind it. What nobody has said yet is zero. */
function headerBytes(packet: Packet): Uint8Array {
  const [source, destination] = [packet.source, packet.destination].map((text) =>
    addressBytes(parseAddress(text)),
  );
  const isV4 = packet.family.name === 'ipv4';
  const length = isV4 ? 20 : 40;
  const bytes = new Uint8Array(length + 20);
  const number = protocolNumbers[packet.protocol];
  if (isV4) bytes.set([0x45, 0, 0, bytes.length, 0, 0, 0x40, 0, 64, number]);
  else bytes.set([0x60, 0, 0, 0, 0, 20, number, 64]);
  bytes.set(source!, isV4 ? 12 : 8);
  bytes.set(destination!, isV4 ? 16 : 24);
  for (const [at, port = 0] of [
    [length, packet.sourcePort],
    [length + 2, packet.port],
  ] as const)
    bytes.set([port >> 8, port & 255], at);
  return bytes;
}

class Machine {
  private readonly bytes: Uint8Array;
  private readonly memory = new Uint32Array(16);
  private a = 0;
  private x = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** @returns undefined for what is no program */
  run(program: readonly Instruction[]): number | undefined {
    for (let at = 0, steps = 0; steps < MOST_STEPS; steps++) {
      const instruction = program[at];
      if (instruction === undefined) return undefined;
      const [code, , , operand] = instruction;
      switch (code & 7) {
        case 5:
          at += 1 + this.jump(instruction);
          continue;
        case 6:
          return (code & 0x18) === 0x10 ? this.a : operand;
        default:
          // A read beyond the packet ends the program, which is a no.
          if (!this.step(code, operand)) return 0;
      }
      at++;
    }
    return undefined;
  }

  private jump([code, jumpTrue, jumpFalse, k]: Instruction): number {
    if ((code & 0xf0) === 0) return k;
    const operand = (code & 8) === 0 ? k : this.x;
    const holds = [false, this.a === operand, this.a > operand, this.a >= operand, (this.a & operand) !== 0][
      (code & 0xf0) >> 4
    ];
    return holds === true ? jumpTrue : jumpFalse;
  }

  /** @returns false where it reads what is not there */
  private step(code: number, operand: number): boolean {
    switch (code & 7) {
      case 0:
      case 1: {
        const value = this.load(code, operand);
        if (value === undefined) return false;
        if ((code & 7) === 0) this.a = value >>> 0;
        else this.x = value >>> 0;
        return true;
      }
      case 2:
      case 3:
        this.memory[operand & 15] = (code & 7) === 2 ? this.a : this.x;
        return true;
      case 4:
        return this.compute(code & 0xf0, (code & 8) === 0 ? operand : this.x);
      default:
        if ((code & 0xf8) === 0) this.x = this.a;
        else this.a = this.x;
        return true;
    }
  }

  private load(code: number, operand: number): number | undefined {
    const width = [4, 2, 1][(code & 0x18) >> 3] ?? 4;
    switch (code & 0xe0) {
      case 0x00:
        return operand;
      case 0x60:
        return this.memory[operand & 15];
      case 0x80:
        return this.bytes.length;
      case 0x20:
        return this.read(operand, width);
      case 0x40:
        return this.read(this.x + operand, width);
      case 0xa0: {
        const byte = this.read(operand, 1);
        return byte === undefined ? undefined : (byte & 15) * 4;
      }
      default:
        return undefined;
    }
  }

  private read(at: number, width: number): number | undefined {
    if (at < 0 || at + width > this.bytes.length) return undefined;
    return this.bytes.subarray(at, at + width).reduce((value, byte) => value * 256 + byte, 0);
  }

  private compute(operation: number, value: number): boolean {
    const { a } = this;
    const results: Readonly<Record<number, number>> = {
      0: a + value,
      16: a - value,
      32: Math.imul(a, value),
      48: value === 0 ? Number.NaN : Math.floor(a / value),
      64: a | value,
      80: a & value,
      96: a << value,
      112: a >>> value,
      128: -a,
      144: value === 0 ? Number.NaN : a % value,
      160: a ^ value,
    };
    const result = results[operation];
    if (result === undefined || Number.isNaN(result)) return false;
    this.a = result >>> 0;
    return true;
  }
}

/** Whether a program takes a packet; undefined for one that is none. */
export function takes(program: readonly Instruction[], packet: Packet): boolean | undefined {
  const result = new Machine(headerBytes(packet)).run(program);
  return result === undefined ? undefined : result !== 0;
}
