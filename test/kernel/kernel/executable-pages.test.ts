import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { dropExecutablePages } from '../../../src/kernel/executable-pages.ts';

/** KiB of files that are mapped into this process. */
const fileKiB = (): number =>
  Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]);

it("pages of the executable that only its start has needed are let go of, and the program's work is as before", () => {
  const work = (): string =>
    createHash('sha256').update(new Intl.NumberFormat('de').format(1e6)).digest('hex');
  const before = work();
  const mapped = fileKiB();
  dropExecutablePages();
  assert.ok(fileKiB() < mapped - 8192, `${mapped} KiB before, ${fileKiB()} KiB after it`);
  assert.equal(work(), before);
});
