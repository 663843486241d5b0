import { closeSync, readFileSync, writeSync } from 'node:fs';
import koffi from 'koffi';

/*
 * Processes as a container runtime starts them: by vfork. Node copies its own memory map first, which takes longer than
 * a plugin that does nothing, and one after the other.
 */

const O_CLOEXEC = 0x80000;
/** At least sizeof(posix_spawn_file_actions_t). */
const FILE_ACTIONS_BYTES = 256;

const library = koffi.load('libc.so.6');
const pipe2 = library.func('int pipe2(_Out_ int *fds, int flags)');
const initActions = library.func('int posix_spawn_file_actions_init(uint8_t *actions)');
const destroyActions = library.func('int posix_spawn_file_actions_destroy(uint8_t *actions)');
const duplicate = library.func('int posix_spawn_file_actions_adddup2(uint8_t *actions, int fd, int target)');
const posixSpawn = library.func(
  'int posix_spawn(_Out_ int *pid, const char *path, uint8_t *actions, void *attributes, const char **argv, const char **environment)',
);
const waitpid = library.func('int waitpid(int pid, _Out_ int *status, int options)');

function makePipe(): [read: number, write: number] {
  const fds = [0, 0];
  if (pipe2(fds, O_CLOEXEC) !== 0) throw new Error(`pipe2: error ${koffi.errno()}`);
  return [fds[0] ?? -1, fds[1] ?? -1];
}

function start(file: string, env: NodeJS.ProcessEnv, stdin: number, stdout: number): number {
  const actions = Buffer.alloc(FILE_ACTIONS_BYTES);
  initActions(actions);
  duplicate(actions, stdin, 0);
  duplicate(actions, stdout, 1);
  const pid = [0];
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const errno: number = posixSpawn(pid, file, actions, null, [file, null], [...variables, null]);
  destroyActions(actions);
  if (errno !== 0) throw new Error(`cannot start ${file}: error ${errno}`);
  return pid[0] ?? 0;
}

/** Who waits for which process: one thread waits for them all. */
const waiting = new Map<number, (status: number) => void>();

function waitForNext(): void {
  const status = [0];
  waitpid.async(-1, status, 0, (_error: unknown, pid: number) => {
    waiting.get(pid)?.(status[0] ?? 0);
    waiting.delete(pid);
    if (waiting.size > 0) waitForNext();
  });
}

/**
 * Runs a program with `input` on its standard input; both that and the output must fit a pipe (64 KiB).
 * @returns its standard output @throws Error when it fails
 */
export async function execute(file: string, env: NodeJS.ProcessEnv, input: string): Promise<string> {
  const [stdin, toProgram] = makePipe();
  const [fromProgram, stdout] = makePipe();
  const pid = start(file, env, stdin, stdout);
  const ended = new Promise<number>((resolve) => waiting.set(pid, resolve));
  if (waiting.size === 1) waitForNext();
  closeSync(stdin);
  closeSync(stdout);
  writeSync(toProgram, input);
  closeSync(toProgram);
  const status = await ended;
  const text = readFileSync(fromProgram, 'utf8');
  closeSync(fromProgram);
  if (status !== 0) throw new Error(`${file} ${env.CNI_COMMAND} ended with status ${status}: ${text}`);
  return text;
}
