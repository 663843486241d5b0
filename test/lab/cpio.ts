/** A file, folder or device of an archive; `mode` has the kind, too. */
export interface ArchiveEntry {
  readonly name: string;
  readonly mode: number;
  readonly data?: Buffer;
  /** Major and minor number. */
  readonly device?: readonly [number, number];
}

const padded = (part: Buffer): Buffer => Buffer.concat([part, Buffer.alloc((4 - (part.length % 4)) % 4)]);

/** An archive as the kernel unpacks it at its start (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function writeArchive(entries: readonly ArchiveEntry[]): Buffer {
  const all = [...entries, { name: 'TRAILER!!!', mode: 0 } as ArchiveEntry];
  return Buffer.concat(
    all.flatMap(({ name, mode, data = Buffer.alloc(0), device: [major, minor] = [0, 0] }, at) => {
      const fields = [at + 1, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length + 1, 0];
      const head = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
      return [padded(Buffer.from(head)), padded(data)];
    }),
  );
}
