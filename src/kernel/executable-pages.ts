import { readFileSync, readlinkSync } from 'node:fs';
import { libc } from './libc.ts';

const MADV_DONTNEED = 4;

/**
 * Lets go of the pages of this program's executable: a start touches much of it that is not used again (V8's snapshot,
 * what reads certificates and locales). Pages that are used come back from the page cache. Only mappings that cannot be
 * written to and of which no page was ever changed (after relocation, say) are what stands in the file. Where the kernel
 * has no /proc/self/smaps nothing is done: it is only memory.
 */
export function dropExecutablePages(): void {
  let mappings: string;
  let executable: string;
  try {
    executable = readlinkSync('/proc/self/exe');
    mappings = readFileSync('/proc/self/smaps', 'latin1');
  } catch {
    return;
  }
  for (const mapping of mappings.split(/\n(?=[\da-f]+-[\da-f]+ )/)) {
    const [, start, end, path] = /^([\da-f]+)-([\da-f]+) r-.p \S+ \S+ \S+ +(.*)/.exec(mapping) ?? [];
    if (path !== executable) continue;
    if (!/^Private_Dirty: +0 kB$/m.test(mapping) || !/^Anonymous: +0 kB$/m.test(mapping)) continue;
    const address = Number.parseInt(start!, 16);
    libc().madvise(address, Number.parseInt(end!, 16) - address, MADV_DONTNEED);
  }
}
