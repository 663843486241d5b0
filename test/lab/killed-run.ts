/** Runs of tests that are killed in the middle. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listNamespaces, ownerDirectory, ownerVariable } from './cleanup.ts';
import { waitFor } from './wait.ts';

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

type Words = (words: readonly string[]) => boolean;

export interface RunState {
  /** Processes of the run that the test of their command line says yes to. */
  marked(yes: Words): number[];
  /** Guards of the run, its own included. */
  readonly owners: number;
}

const isGuard: Words = (words) => words[1]?.endsWith('guard-process.js') === true;
const idOf = (guard: number): string => readFileSync(`/proc/${guard}/cmdline`, 'latin1').split('\0')[2]!;

/**
 * Runs the test files of a filter, kills the run once it is as far as `isUnderWay` says, and waits until everything of it
 * is gone: processes, namespaces, files.
 * @throws Error when something stays
 */
export async function killRun(filter: string, isUnderWay: (state: RunState) => boolean): Promise<void> {
  // Else it takes itself for a part of the test that calls, and runs nothing.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const runner = join(import.meta.dirname, '../run.js');
  const child = spawn(process.execPath, [runner, filter], { stdio: 'ignore', env });
  try {
    const [guard] = await waitFor('the guard of the run', async () => {
      const own = find((_, words) => isGuard(words)).filter((pid) => parentOf(pid) === child.pid);
      return own.length > 0 && own;
    });
    const id = idOf(guard!);
    const ids = new Set([id]);
    const marked = (yes: Words): number[] =>
      find((environment, words) => environment.includes(`${ownerVariable}=${id}`) && yes(words));
    // Folders of the tests lie in the run's, or in those of guards of their own.
    await waitFor(`a test of ${filter} to run`, async () => {
      const processes = marked(() => true);
      for (const pid of find((_, words) => isGuard(words)))
        if (processes.includes(parentOf(pid))) ids.add(idOf(pid));
      const all = [...ids];
      const of = (environment: readonly string[]): boolean =>
        all.some((one) => environment.includes(`${ownerVariable}=${one}`));
      return isUnderWay({
        owners: ids.size,
        marked: (yes) => find((environment, words) => of(environment) && yes(words)),
      });
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
