import { readFileSync } from 'node:fs';

/** What POSIX lets a process have at least, nearly everywhere. */
const USUAL = 1024;

/** How many descriptors this process may have open. */
export function descriptorLimit(): number {
  try {
    const [, soft] = /^Max open files +(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft ?? USUAL);
  } catch {
    return USUAL;
  }
}
