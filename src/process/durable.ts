import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { readRegularFile } from './regular-file.ts';

// Imports none of ours: the CNI executable uses it, and its start is its cost.

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
const unfinishedName = /^\..+\.[0-9a-f]{16}\.new$/;

export interface ReplaceOptions {
  /** Permission bits, whatever the umask says. */
  readonly mode: number;
  /** True: what was written is on the disk when the call returns, and survives a crash of the machine. Default false. */
  readonly durable?: boolean;
}

/** Makes a directory that is there when the power comes back, too. */
export function makeDirectoryDurably(path: string, mode: number): void {
  const first = mkdirSync(path, { recursive: true, mode });
  if (first !== undefined) syncDirectory(dirname(first));
}

/** Writes all of it: a nearly full disk takes a part, and says so only when the rest comes. */
function writeWhole(file: number, data: Uint8Array): void {
  for (let done = 0; done < data.length; ) done += writeSync(file, data, done);
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** One that went by itself, or cannot go, does no harm. */
function removeQuietly(unfinished: string): void {
  try {
    unlinkSync(unfinished);
  } catch {
    // as said
  }
}

/**
 * Replaces `path` so that whoever reads it, also after this process was killed at any moment or the disk was full, finds
 * the old content or the new one, whole. Written under a name that nobody can know before, and only to a file that is
 * made by this call: who may write to the directory cannot turn it on another file. A link at `path` is replaced, not
 * followed.
 * @param pieces what to write, in order
 * @throws Error of the system, and nothing has changed then
 */
export function replaceFile(
  path: string,
  pieces: string | Iterable<Uint8Array>,
  { mode, durable = false }: ReplaceOptions,
): void {
  const unfinished = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.new`);
  const file = openSync(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  try {
    try {
      for (const piece of typeof pieces === 'string' ? [Buffer.from(pieces)] : pieces)
        writeWhole(file, piece);
      fchmodSync(file, mode);
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file); // some file systems say only now that there was no room
    }
    renameSync(unfinished, path);
  } catch (error) {
    removeQuietly(unfinished);
    throw error;
  }
  if (durable) syncDirectory(dirname(path));
}

/** True when the file has this text: there is nothing to write then. */
export function holdsText(path: string, text: string): boolean {
  try {
    return readRegularFile(path) === text;
  } catch {
    return false;
  }
}

/** True when the file has these permission bits. */
export function hasMode(path: string, mode: number): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && (found.mode & 0o7777) === mode;
}

/**
 * The paths of what writers left that were killed.
 * @param path the file they wanted to replace; undefined for all of `directory`
 */
export function unfinishedFiles(directory: string, path?: string): string[] {
  const wanted = (name: string): boolean =>
    unfinishedName.test(name) && (path === undefined || name.startsWith(`.${basename(path)}.`));
  return readdirSync(directory)
    .filter(wanted)
    .map((name) => join(directory, name));
}

/** Removes {@link unfinishedFiles}: only where nobody is writing now. */
export function removeUnfinished(directory: string, path?: string): void {
  for (const one of unfinishedFiles(directory, path)) removeQuietly(one);
}
