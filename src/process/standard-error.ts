import { writeSync } from 'node:fs';

const STANDARD_ERROR = 2;
/** How often a reader that is slow is given a millisecond before a line is dropped. */
const PATIENCE = 100;

const pause = new Int32Array(new SharedArrayBuffer(4));

/**
 * Writes to standard error, at once. Whoever read it may have ended, its disk may be full: the line is lost then, and
 * nothing else.
 */
export function writeStandardError(text: string): void {
  let rest = Buffer.from(text);
  for (let attempt = 0; rest.length > 0 && attempt < PATIENCE; ) {
    try {
      rest = rest.subarray(writeSync(STANDARD_ERROR, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      attempt++;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}
