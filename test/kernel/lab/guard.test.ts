import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { listNamespaces, ownerDirectory, ownerVariable } from '../../lab/cleanup.ts';
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

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  } catch {
    return -1; // it ended meanwhile
  }
}

/** Numbers of the processes that the test says yes to, by their environment and command line. */
function find(yes: (environment: readonly string[], words: readonly string[]) => boolean): number[] {
  return readdirSync('/proc')
    .filter((pid) => {
      try {
        const read = (name: string): string[] => readFileSync(`/proc/${pid}/${name}`, 'latin1').split('\0');
        return /^\d+$/.test(pid) && yes(read('environ'), read('cmdline'));
      } catch {
        return false; // it ended meanwhile
      }
    })
    .map(Number);
}

test('a run of tests that is killed leaves no process, namespace or file, whatever its tests had made', async () => {
  const runner = join(modules, '../run.js');
  // Else it takes itself for a part of this test, and runs nothing.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  for (const filter of [
    'kernel/pods/conformance/gc',
    'kernel/services/servers',
    'unit/pods/install',
    'e2e/hosts',
  ]) {
    const child = spawn(process.execPath, [runner, filter], { stdio: 'ignore', env });
    const ids = new Set<string>();
    try {
      const [guard] = await waitFor('the guard of the run', async () => {
        const found = find((_, words) => words[1]?.endsWith('guard-process.js') === true);
        const own = found.filter((pid) => parentOf(pid) === child.pid);
        return own.length > 0 && own;
      });
      const id = readFileSync(`/proc/${guard}/cmdline`, 'latin1').split('\0')[2]!;
      ids.add(id);
      const marked = (): number[] => find((environment) => environment.includes(`${ownerVariable}=${id}`));
      // Folders of the tests lie in the run's, or in those of guards of their own.
      await waitFor('a test to run', async () => {
        for (const pid of find((_, words) => words[1]?.endsWith('guard-process.js') === true))
          if (marked().includes(parentOf(pid)))
            ids.add(readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')[2]!);
        return filter.startsWith('unit') ? marked().length > 0 : ids.size > 1;
      });
      child.kill('SIGKILL');
      await waitFor(`all of ${filter} to go`, async () =>
        [...ids].every(
          (one) =>
            !existsSync(ownerDirectory(one)) &&
            listNamespaces(one).length === 0 &&
            find((environment) => environment.includes(`${ownerVariable}=${one}`)).length === 0,
        ),
      );
    } finally {
      child.kill('SIGKILL');
    }
  }
});
