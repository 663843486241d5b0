import { libc } from './libc.ts';

const F_SETFD = 2;

/**
 * Starts this program anew in the same process, with further arguments for Node: some can only be given at the start.
 * The process keeps its number, its standard streams and its environment.
 *
 * Does not return, unless the kernel refuses (then the program goes on as it is) or `nodeArguments` are in force already.
 */
export function restartWith(nodeArguments: readonly string[]): void {
  if (nodeArguments.every((argument) => process.execArgv.includes(argument))) return;
  const { execve, fcntl } = libc();
  // Node marks every descriptor that it finds at its start to be closed by this (uv_disable_stdio_inheritance).
  for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 'int', 0);
  const argv = [process.execPath, ...nodeArguments, ...process.execArgv, ...process.argv.slice(1)];
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
  execve(process.execPath, [...argv, null], [...environment, null]);
}
