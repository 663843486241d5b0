import { accessSync, constants, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { TwillError } from '../model/error.ts';

/**
 * Where settings are. Container runtimes have /proc/sys read-only without full privileges; the node's /proc/sys/net can be
 * mounted beside it, and shows the namespace of whoever looks there, too (fs/proc/proc_sysctl.c).
 */
const sysctlRoot = process.env.TWILL_PROC_SYS || '/proc/sys';

/** `name` in slashes or dots; interface names may hold dots, so slashes are the safe form: `net/ipv4/ip_forward`. */
function pathOf(name: string): string {
  return `${sysctlRoot}/${name.includes('/') ? name : name.replaceAll('.', '/')}`;
}

/** The value in the calling thread's network namespace; undefined when the kernel has no such setting. */
export function readSysctl(name: string): string | undefined {
  const path = pathOf(name);
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

/** Whether the setting can be written: it is there, and /proc/sys is not read-only, as in a container without privileges. */
export function canWriteSysctl(name: string): boolean {
  try {
    accessSync(pathOf(name), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Sets the value unless it is set already. Synchronous, so it works inside {@link inNetns}.
 * @returns false when it was right before
 * @throws TwillError `not-found` when the kernel has no such setting, `permission`
 */
export function writeSysctl(name: string, value: string): boolean {
  const current = readSysctl(name);
  if (current === undefined) throw new TwillError('not-found', `the kernel has no sysctl ${name}`);
  if (current === value) return false;
  try {
    writeFileSync(pathOf(name), value);
  } catch (cause) {
    throw new TwillError(
      'permission',
      `cannot set sysctl ${name}=${value}: ${sysctlRoot} has to be writable (TWILL_PROC_SYS names a mount of the node's that is)`,
      cause,
    );
  }
  return true;
}

/** Names in a folder of settings, e.g. the interfaces in `net/ipv6/conf`; none where the kernel has no such folder. */
export function listSysctls(folder: string): string[] {
  const path = pathOf(folder);
  return existsSync(path) ? readdirSync(path) : [];
}
