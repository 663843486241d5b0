import { readFileSync, readlinkSync } from 'node:fs';

/** The fields of /proc/PID/stat that follow the name, which may have any character (proc_pid_stat(5)). */
function statFields(pid: number | 'self'): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

const STATE = 0;
const START_TIME = 19;

export interface Mark {
  readonly pid: number;
  /** When it began, in clock ticks since the boot. */
  readonly startTicks: string;
  readonly pidNamespace: string;
}

/** What tells this process from all others, also after it has ended. */
export function ownMark(): Mark {
  return {
    pid: process.pid,
    startTicks: statFields('self')[START_TIME] ?? '',
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
  };
}

/** `elsewhere`: it is of another PID namespace (another container), where nothing can be said. */
export type ProcessCondition = 'runs' | 'stopped' | 'gone' | 'elsewhere';

/** How the process that made the mark does now. */
export function conditionOf(mark: Mark): ProcessCondition {
  try {
    if (readlinkSync('/proc/self/ns/pid') !== mark.pidNamespace) return 'elsewhere';
    const fields = statFields(mark.pid);
    if (fields[START_TIME] !== mark.startTicks || fields[STATE] === 'Z') return 'gone';
    return fields[STATE] === 'T' || fields[STATE] === 't' ? 'stopped' : 'runs';
  } catch {
    return 'gone';
  }
}
