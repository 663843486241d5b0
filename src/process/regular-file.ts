import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';

// Imports none of ours: the CNI executable uses it, and its start is its cost.

/** More than any file has that is read as a whole here. */
const MOST_BYTES = 64 * 1024 * 1024;

/**
 * The text of a file whose name somebody else chose. A named pipe of that name would be waited for for ever, a device read
 * without end, and a file of any size kept in memory: none of these is read.
 * @throws Error of the system, or naming the path and what is wrong with it
 */
export function readRegularFile(path: string): string {
  // Looked at before it is opened, which alone does things to some devices, and again when nobody can exchange it.
  if (!statSync(path).isFile()) throw new Error(`'${path}' is no regular file`);
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(file);
    if (!found.isFile()) throw new Error(`'${path}' is no regular file`);
    if (found.size > MOST_BYTES)
      throw new Error(`'${path}' has ${found.size} bytes: more than ${MOST_BYTES} are not read`);
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}
