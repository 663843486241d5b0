// Runs the tests: all of them, or those whose path contains one of the arguments. A skipped test is named at the end,
// and is a failure where CI=true.
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { guardThisProcess } from './lab/guard.ts';

const kinds = ['unit', 'golden', 'kernel', 'e2e'];
const concurrency = 2;
const fileTimeoutMs = 15 * 60_000;

function findTests(filters: readonly string[]): string[] {
  return kinds
    .flatMap((kind) => {
      const folder = join(import.meta.dirname, kind);
      try {
        return readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
      } catch {
        return []; // there are no tests of this kind
      }
    })
    .filter((path) => path.endsWith('.test.js'))
    .filter((path) => {
      const name = relative(import.meta.dirname, path);
      return filters.length === 0 || filters.some((filter) => name.includes(filter));
    })
    .sort(
      (a, b) =>
        kinds.findIndex((kind) => a.includes(`/${kind}/`)) -
        kinds.findIndex((kind) => b.includes(`/${kind}/`)),
    );
}

const filters = process.argv.slice(2);
const files = findTests(filters);
if (files.length === 0) {
  process.stderr.write(`no test file matches ${filters.join(', ')}\n`);
  process.exit(1);
}

// Proxies that are started without a place of their own must not leave one on this machine.
process.env.TWILL_INSPECT_SOCKET ??= 'none';

const guard = await guardThisProcess();
const skipped: string[] = [];
const stream = run({ files, concurrency, timeout: fileTimeoutMs });
stream.on('test:fail', () => {
  process.exitCode = 1;
});
stream.on('test:pass', (test) => {
  if (test.skip === undefined || test.skip === false) return;
  skipped.push(`${test.name}: ${test.skip === true ? 'no reason given' : test.skip}`);
});
const output = stream.compose(new spec());
output.pipe(process.stdout);
output.on('end', async () => {
  await guard.close();
  if (skipped.length === 0) return;
  process.stdout.write(`\nSKIPPED, not tested here:\n${skipped.map((line) => `  ${line}\n`).join('')}`);
  if (process.env.CI === 'true') {
    process.stdout.write('a skipped test is a failure in CI\n');
    process.exitCode = 1;
  }
});
