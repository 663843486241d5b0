import { readFileSync, readlinkSync } from 'node:fs';
import { libc } from './libc.ts';

const MADV_DONTNEED = 4;

export interface Mapping {
  readonly address: number;
  readonly bytes: number;
}

/** What a mapping has of its own, wherever that is now: changed pages may have been swapped out. */
const changed = /^(?:Private_Dirty|Anonymous|Swap): +[1-9]/m;
/** Without these lines nobody knows. */
const complete = /^Private_Dirty:[\s\S]*^Anonymous:[\s\S]*^Swap:/m;

/**
 * The mappings of a file that are what stands in it: they cannot be written to, and no page was ever changed (after
 * relocation, say).
 * @param smaps text of /proc/PID/smaps (proc_pid_smaps(5))
 */
export function unchangedMappings(smaps: string, file: string): Mapping[] {
  return smaps.split(/\n(?=[\da-f]+-[\da-f]+ )/).flatMap((mapping) => {
    const [, start, end, path] = /^([\da-f]+)-([\da-f]+) r-.p \S+ \S+ \S+ +(.*)/.exec(mapping) ?? [];
    if (path !== file || changed.test(mapping) || !complete.test(mapping)) return [];
    const address = Number.parseInt(start!, 16);
    return [{ address, bytes: Number.parseInt(end!, 16) - address }];
  });
}

/**
 * Lets go of the pages of this program's executable: a start touches much of it that is not used again (V8's snapshot,
 * what reads certificates and locales). Pages that are used come back from the page cache. Where the kernel has no
 * /proc/self/smaps nothing is done: it is only memory.
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
  for (const { address, bytes } of unchangedMappings(mappings, executable))
    libc().madvise(address, bytes, MADV_DONTNEED);
}
