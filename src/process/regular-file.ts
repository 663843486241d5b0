import { closeSync, constants, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';

// Imports none of ours: the CNI executable uses it, and its start is its cost.

/** More than any file has that is read as a whole here. */
const MOST_BYTES = 64 * 1024 * 1024;

/** @param read what is made of the open file, and its size */
function withRegularFile<T>(path: string, read: (file: number, size: number) => T): T {
  // Looked at before it is opened, which alone does things to some devices, and again when nobody can exchange it.
  if (!statSync(path).isFile()) throw new Error(`'${path}' is no regular file`);
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(file);
    if (!found.isFile()) throw new Error(`'${path}' is no regular file`);
    return read(file, found.size);
  } finally {
    closeSync(file);
  }
}

/**
 * The text of a file whose name somebody else chose. A named pipe of that name would be waited for for ever, a device read
 * without end, and a file of any size kept in memory: none of these is read.
 * @throws Error of the system, or naming the path and what is wrong with it
 */
export function readRegularFile(path: string): string {
  return withRegularFile(path, (file, size) => {
    if (size > MOST_BYTES)
      throw new Error(`'${path}' has ${size} bytes: more than ${MOST_BYTES} are not read`);
    return readFileSync(file, 'utf8');
  });
}

/**
 * The same of a file that may be of any size, a log: of one that is longer than `most` bytes the first and the last half
 * of these, with a line between them that says so.
 */
export function readEnds(path: string, most: number): string {
  return withRegularFile(path, (file, size) => {
    if (size <= most) return readFileSync(file, 'utf8');
    const half = Math.floor(most / 2);
    const part = (at: number): string => {
      const bytes = Buffer.alloc(half);
      return bytes.toString('utf8', 0, readSync(file, bytes, 0, half, at));
    };
    return `${part(0)}\n… ${size - 2 * half} bytes left out …\n${part(size - half)}`;
  });
}
