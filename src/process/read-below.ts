import { readlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readRegularFile } from './regular-file.ts';

/** As many as the kernel follows (path_resolution(7)). */
const MOST_LINKS = 40;

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return undefined; // it is there, and no link
    throw error;
  }
}

/**
 * The text of a file of another root, a host's that is mounted: what a symbolic link names is looked for below that root,
 * too. For files that nobody exchanges meanwhile.
 * @throws Error of the system, or naming the path and what is wrong with it
 */
export function readBelow(root: string, path: string): string {
  let done = '/';
  let rest = path.split('/');
  let links = 0;
  while (rest.length > 0) {
    const [name = '', ...others] = rest;
    const next = resolve(done, name);
    const link = next === '/' ? undefined : linkAt(join(root, next));
    if (link !== undefined && ++links > MOST_LINKS) throw new Error(`'${path}' has too many links`);
    rest = link === undefined ? others : [...link.split('/'), ...others];
    if (link === undefined) done = next;
    else if (link.startsWith('/')) done = '/';
  }
  return readRegularFile(join(root, done));
}
