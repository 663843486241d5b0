import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { controlGroupPrefix, listNamespaces } from '../../lab/cleanup.ts';
import { Guard } from '../../lab/guard.ts';
import { killRun } from '../../lab/killed-run.ts';
import { waitFor } from '../../lab/wait.ts';

const modules = join(import.meta.dirname, '../../lab');

/** Has a guard, says its id, and makes a namespace. */
const owner = `
  const { Guard } = await import(${JSON.stringify(join(modules, 'guard.js'))});
  const { ipNetns } = await import(${JSON.stringify(join(modules, 'cleanup.js'))});
  const guard = await Guard.start();
  console.log(guard.id);
  await ipNetns('add', guard.namespacePrefix + 'late');
`;

function runs(text: string): boolean {
  return readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text);
    } catch {
      return false; // it ended meanwhile
    }
  });
}

test('an owner that is killed while a namespace of its waits to be made leaves none', async () => {
  // Another lab is slow to make its namespaces.
  const other = spawn('flock', ['/run', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  other.stdin.write('locked\n');
  await once(other.stdout, 'data');
  const child = spawn(process.execPath, ['--input-type=module', '-e', owner], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const id = String(await once(child.stdout, 'data')).trim();
    const waiting = `add\0tw${id}-late`;
    await waitFor('the owner to make its namespace', async () => runs(waiting));
    child.kill('SIGKILL');
    await waitFor('the guard to find what waits', async () => !runs(waiting), { timeoutMs: 10_000 });
    other.stdin.end();
    await once(other, 'exit');
    assert.deepEqual(listNamespaces(id), []);
  } finally {
    child.kill('SIGKILL');
    other.kill('SIGKILL');
  }
});

test('control groups go with their owner, those below them, too, whatever their names', async () => {
  const guard = await Guard.start();
  const root = '/sys/fs/cgroup';
  const hierarchy = existsSync(join(root, 'cgroup.controllers')) ? root : join(root, 'pids');
  const group = join(hierarchy, `${controlGroupPrefix(guard.id)}node`);
  // As containerd calls the one of a kubelet's containers.
  mkdirSync(join(group, 'k8s.io/container'), { recursive: true });
  await guard.close();
  assert.ok(!existsSync(group));
});

for (const filter of ['kernel/pods/conformance/gc', 'kernel/services/servers', 'unit/pods/install'])
  test(`a run of tests that is killed leaves no process, namespace or file, whatever its tests had made: ${filter}`, () =>
    killRun(filter, ({ marked, owners }) =>
      filter.startsWith('unit') ? marked((words) => words.length > 0).length > 0 : owners > 1,
    ));
