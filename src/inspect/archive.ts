import { once } from 'node:events';
import { createGzip } from 'node:zlib';
import { TwillError } from '../model/error.ts';

export interface ArchiveEntry {
  /** At most 255 bytes, of which those behind the first slash are at most 100. */
  readonly name: string;
  readonly text: string;
}

const BLOCK = 512;

/** A header of the ustar format (POSIX.1-1988, tar(5)). */
function header(name: string, size: number, mtimeSeconds: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const slash = name.indexOf('/');
  const [folder, rest] = [name.slice(0, Math.max(0, slash)), name.slice(slash + 1)];
  if (Buffer.byteLength(folder) > 155 || Buffer.byteLength(rest) > 100)
    throw new TwillError('internal', `the name '${name}' is too long`);
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  block.write(rest, 0);
  octal(0o600, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(mtimeSeconds, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write('0', 156, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  block.write(folder, 345);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** A .tar.gz, packed while it is filled: what went in is not kept. */
export class Archive {
  private readonly packer = createGzip();
  private readonly packed: Buffer[] = [];
  private readonly seconds: number;

  /** @param at when it is written, milliseconds since the epoch */
  constructor(at: number) {
    this.seconds = Math.floor(at / 1000);
    this.packer.on('data', (part: Buffer) => this.packed.push(part));
  }

  /** Resolves when it is packed. */
  private write(data: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.packer.write(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Several may be added at once. @returns the bytes of the text */
  async add({ name, text }: ArchiveEntry): Promise<number> {
    const data = Buffer.from(text);
    const rest = data.length % BLOCK;
    // The packer keeps the order in which it is given them.
    void this.write(header(name, data.length, this.seconds));
    const written = this.write(data);
    if (rest > 0) void this.write(Buffer.alloc(BLOCK - rest));
    await written;
    return data.length;
  }

  async end(): Promise<Buffer> {
    const ended = once(this.packer, 'end');
    this.packer.end(Buffer.alloc(2 * BLOCK));
    await ended;
    return Buffer.concat(this.packed);
  }
}
