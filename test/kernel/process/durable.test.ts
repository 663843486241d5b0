import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { run } from '../../../src/kernel/process.ts';
import { queueDeletion, queueDirectory } from '../../../src/pods/cni/deletions.ts';
import { removeUnfinished, replaceFile } from '../../../src/process/durable.ts';
import { writeFileAtomically } from '../../../src/process/files.ts';

const directory = mkdtempSync(join(tmpdir(), 'twill-durable-'));
after(() => rmSync(directory, { recursive: true }));

const compiled = (path: string): string => JSON.stringify(join(import.meta.dirname, '../../../src', path));

/** Runs a script on a disk of 64 KiB of its own, at `disk`; the disk goes with it. @returns what it printed as JSON */
async function onSmallDisk(script: string): Promise<unknown> {
  const program = `
    import * as fs from 'node:fs';
    import { replaceFile } from ${compiled('process/durable.js')};
    import { writeFileAtomically } from ${compiled('process/files.js')};
    import { queueDeletion, queueDirectory } from ${compiled('pods/cni/deletions.js')};
    const disk = ${JSON.stringify(directory)};
    const attempt = (work) => { try { work(); return 'done'; } catch (error) { return error.code; } };
    const fill = (keep = 0) => {
      const file = fs.openSync(disk + '/filler', 'w');
      try { for (;;) fs.writeSync(file, Buffer.alloc(1024)); } catch {}
      fs.ftruncateSync(file, fs.fstatSync(file).size - keep);
      fs.closeSync(file);
    };
    ${script}`;
  const mounted = `mount -t tmpfs -o size=64k none ${directory} && exec "$0" --input-type=module -e "$1"`;
  const { status, stdout, stderr } = await run('unshare', [
    '-m',
    'sh',
    '-c',
    mounted,
    process.execPath,
    program,
  ]);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

test('a full disk: the old file stays whole, nothing unfinished is left, and what is unchanged needs no room', async () => {
  const result = await onSmallDisk(`
    replaceFile(disk + '/file', 'old', { mode: 0o600 });
    writeFileAtomically(disk + '/subnet.env', 'same');
    fill();
    const outcomes = [
      attempt(() => replaceFile(disk + '/file', 'new', { mode: 0o600 })),
      attempt(() => writeFileAtomically(disk + '/subnet.env', 'same')),
      attempt(() => writeFileAtomically(disk + '/subnet.env', 'other')),
      fs.readFileSync(disk + '/file', 'utf8'),
      fs.readFileSync(disk + '/subnet.env', 'utf8'),
      fs.readdirSync(disk).sort(),
    ];
    console.log(JSON.stringify(outcomes));`);
  assert.deepEqual(result, ['ENOSPC', 'done', 'exhausted', 'old', 'same', ['file', 'filler', 'subnet.env']]);
});

test('a nearly full disk, which takes a part of what is written: all or nothing', async () => {
  const result = await onSmallDisk(`
    replaceFile(disk + '/file', 'old', { mode: 0o600 });
    fill(8192);
    const text = 'x'.repeat(20000);
    // Two pages are free and the third is not: write(2) takes 8192 bytes and says so.
    const refused = attempt(() => replaceFile(disk + '/file', text, { mode: 0o600, durable: true }));
    const queued = attempt(() => queueDeletion(disk + '/cni.sock', { environment: {}, input: text }));
    console.log(JSON.stringify([refused, fs.readFileSync(disk + '/file', 'utf8'), queued,
      fs.readdirSync(queueDirectory(disk + '/cni.sock')), fs.readdirSync(disk).sort()]));`);
  assert.deepEqual(result, ['ENOSPC', 'old', 'ENOSPC', [], ['del-queue', 'file', 'filler']]);
});

test('links are not followed: what they lead to stays as it is', () => {
  const victim = join(directory, 'victim');
  writeFileSync(victim, 'precious');
  const target = join(directory, 'target');
  for (const name of ['target', 'target.new', `target.${process.pid}.new`, '.target.new'])
    symlinkSync(victim, join(directory, name));
  replaceFile(target, 'ours', { mode: 0o640 });
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.ok(lstatSync(target).isFile());
  assert.equal(readFileSync(target, 'utf8'), 'ours');
  assert.equal(statSync(target).mode & 0o777, 0o640);
  assert.equal(writeFileAtomically(target, 'ours'), false);
  assert.equal(writeFileAtomically(target, 'more'), true);
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
});

test('permission bits are those asked for, whatever the umask is', () => {
  const before = process.umask(0o077);
  try {
    replaceFile(join(directory, 'open'), 'text', { mode: 0o755 });
  } finally {
    process.umask(before);
  }
  assert.equal(statSync(join(directory, 'open')).mode & 0o777, 0o755);
});

test('what a killed writer left is removed, and nothing else', () => {
  const names = ['.file.0123456789abcdef.new', '.other.0123456789abcdef.new', '.file.new', 'file.new'];
  for (const name of names) writeFileSync(join(directory, name), '');
  removeUnfinished(directory, join(directory, 'file'));
  const left = (): string[] => readdirSync(directory).filter((name) => names.includes(name));
  assert.deepEqual(left().sort(), names.slice(1).sort());
  removeUnfinished(directory);
  assert.deepEqual(left().sort(), names.slice(2).sort());
});

test('a deletion that is being queued while an agent starts, which sweeps, is queued', async () => {
  const socket = join(directory, 'cni.sock');
  const call = { environment: { CNI_COMMAND: 'DEL' }, input: '{}' };
  queueDeletion(socket, call);
  // Takes three files away from who is writing them.
  const sweeper = spawn(
    process.execPath,
    [
      ...['--input-type=module', '-e'],
      `import { unlinkSync } from 'node:fs';
      import { unfinishedFiles } from ${compiled('process/durable.js')};
      for (let taken = 0; taken < 3; )
        for (const one of unfinishedFiles(${JSON.stringify(queueDirectory(socket))}))
          try { unlinkSync(one); taken++; } catch {}`,
    ],
    { stdio: 'inherit' },
  );
  const ended = once(sweeper, 'exit');
  let queued = 1;
  for (; sweeper.exitCode === null; queued++) {
    queueDeletion(socket, call);
    await turn();
  }
  assert.deepEqual(await ended, [0, null]);
  const names = readdirSync(queueDirectory(socket));
  assert.equal(names.length, queued);
  assert.ok(names.every((name) => name.endsWith('.json')));
});
