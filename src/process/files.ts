import { lstatSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TwillError } from '../model/error.ts';
import { holdsText, removeUnfinished, replaceFile } from './durable.ts';
import { readRegularFile } from './regular-file.ts';

/** The file's text; undefined when there is none or it cannot be read. */
export function readFileIfPresent(path: string): string | undefined {
  try {
    return readRegularFile(path);
  } catch {
    return undefined;
  }
}

/**
 * Writes the file so that a reader sees the old text or the new, never a part. Makes the directory where it is missing.
 * For files that one process alone writes.
 * @returns false when the file held this text already: it is not touched then, which works on a full disk, too
 * @throws TwillError `permission` naming the file, `exhausted` when there is no room for it
 */
export function writeFileAtomically(path: string, text: string): boolean {
  if (holdsText(path, text)) return false;
  try {
    mkdirSync(dirname(path), { recursive: true });
    removeUnfinished(dirname(path), path);
    replaceFile(path, text, { mode: 0o644 });
  } catch (cause) {
    throw fileError(path, cause);
  }
  return true;
}

/** The names in a directory; none where there is no such directory. @throws TwillError `permission` naming it */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) return [];
    throw new TwillError('permission', `cannot read '${directory}'`, cause);
  }
}

/**
 * @returns false when there was none
 * @throws Error of the system. Node's own `rmSync` throws some without a code since Node 26: 'Unknown error'
 */
export function unlinkIfPresent(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
}

/** Removes a file, or a directory with all that is in it; none is fine. @throws as {@link unlinkIfPresent} */
export function removeTree(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
    unlinkIfPresent(path);
    return;
  }
  for (const name of readdirSync(path)) removeTree(join(path, name));
  rmdirSync(path);
}

/** The error for a file that could not be written. */
export function fileError(path: string, cause: unknown): TwillError {
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (['ENOSPC', 'EDQUOT'].includes(code))
    return new TwillError('exhausted', `cannot write '${path}': no space is left, make some`, cause);
  return new TwillError('permission', `cannot write '${path}'`, cause);
}
