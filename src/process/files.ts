import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TwillError } from '../model/error.ts';

/** The file's text; undefined when there is none or it cannot be read. */
export function readFileIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Writes the file so that a reader sees the old text or the new, never a part. Makes the directory where it is missing.
 * @returns false when the file held this text already
 * @throws TwillError `permission` naming the file
 */
export function writeFileAtomically(path: string, text: string): boolean {
  if (readFileIfPresent(path) === text) return false;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const temporary = `${path}.${process.pid}.new`;
    writeFileSync(temporary, text, { mode: 0o644 });
    renameSync(temporary, path);
  } catch (cause) {
    throw new TwillError('permission', `cannot write '${path}'`, cause);
  }
  return true;
}
