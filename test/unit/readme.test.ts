import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { proxyFlags } from '../../src/services/plan/flags.ts';
import { root } from '../lab/files.ts';
import { flagsIn, helpFlags } from '../lab/help.ts';

/** The README's lines that begin with a call of twill, continuation lines joined. */
function readmeCalls(): { command: string; flags: string[] }[] {
  const text = readFileSync(join(root, 'README.md'), 'utf8').replaceAll(/\\\n\s*/g, '');
  return [...text.matchAll(/^(?: {4}|\$ |# )*(?:sudo )?twill ([a-z-]+)(.*)$/gm)].map(([, command, rest]) => ({
    command: command!,
    flags: flagsIn(rest!),
  }));
}

test('every call of twill in the README is one that works: command and flags exist', async () => {
  const calls = readmeCalls();
  assert.ok(calls.length > 0);
  for (const { command, flags } of calls) {
    const known = await helpFlags(command);
    for (const flag of flags) assert.ok(known.has(flag), `twill ${command} --${flag}`);
  }
});

test('every flag in a table of the README exists', async () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const tables = [...readme.matchAll(/^### Flags of `twill ([a-z-]+)`\n([^#]*)/gm)];
  assert.ok(tables.length > 0);
  for (const [, command, body] of tables) {
    // Flags without effect are in no help; the README says that they are taken.
    const idle = command === 'proxy' ? proxyFlags.map(({ name }) => name) : [];
    const known = new Set([...(await helpFlags(command!)), ...idle]);
    const rows = [...body!.matchAll(/^\| (.*?) \|/gm)].map((match) => match[1]!).join(' ');
    assert.ok(flagsIn(rows).length > 0);
    for (const flag of flagsIn(rows)) assert.ok(known.has(flag), `twill ${command} --${flag}`);
  }
});

test('every file that ARCHITECTURE.md and every test that SECURITY.md names is there', () => {
  const architecture = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');
  const there = [root, 'src', 'cni-bin', 'test', 'tools', 'dashboards'].flatMap((folder) =>
    folder === root
      ? readdirSync(root)
      : readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
          join(folder, name),
        ),
  );
  const files = [...architecture.matchAll(/`((?:[\w-]+\/)*[\w-]+\.(?:ts|json|mjs|yaml))`/g)];
  assert.ok(files.length > 50);
  for (const [, file] of files)
    assert.ok(
      there.some((path) => path === file || path.endsWith(`/${file}`)),
      file,
    );
  const security = readFileSync(join(root, 'SECURITY.md'), 'utf8');
  const tests = [...security.matchAll(/`((?:unit|golden|kernel|e2e)\/[a-z/-]+)`/g)];
  assert.ok(tests.length > 10);
  for (const [, test] of tests) assert.ok(existsSync(join(root, 'test', `${test}.test.ts`)), test);
});

test('every field in the table of the CNI configuration is in a test of the CNI side', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const [, section = ''] = /^### The CNI configuration\n([^#]*)/m.exec(readme) ?? [];
  const names = [...section.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(?:\w+\.)?(\w+)`/g)].map((match) => match[1]!),
  );
  assert.ok(names.length > 30);
  const folders = ['kernel/pods', 'e2e/pods', 'e2e/masquerade'].map((folder) => join(root, 'test', folder));
  const tests = folders
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
    )
    .filter((path) => path.endsWith('.test.ts') && !path.endsWith('fuzz.test.ts'))
    .map((path) => readFileSync(path, 'utf8'))
    .join('');
  assert.deepEqual(
    names.filter((name) => !new RegExp(`\\b${name}\\b`).test(tests)),
    [],
  );
});
