import { randomBytes } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/kernel/process.ts';

/** Everything of the owner ID carries it: namespaces `twID-…`, the directory `/tmp/twill-lab-ID`, processes' environment. */
export const ownerVariable = 'TWILL_LAB';
export const namespaceFolder = '/run/netns';

const directoryPrefix = '/tmp/twill-lab-';
const createdMark = 'created-run-netns';

/** In the owner's directory: the number and the start time of its guard process. */
export const guardFile = 'guard';

/** The process's start time, which tells it from a later one with the same number; undefined when there is none. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? undefined : fields[18]; // a zombie has ended
  } catch {
    return undefined;
  }
}

export function makeOwnerId(): string {
  return randomBytes(4).toString('hex');
}

export function ownerDirectory(id: string): string {
  return directoryPrefix + id;
}

export function namespacePrefix(id: string): string {
  return `tw${id}-`;
}

/** Control groups of the owner's containers are made at the top of their hierarchy. */
export function controlGroupPrefix(id: string): string {
  return `twill-${id}-`;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** The ids of all owners that have a directory on this machine. */
export function listOwners(): string[] {
  const name = directoryPrefix.slice('/tmp/'.length);
  return list('/tmp')
    .filter((entry) => entry.startsWith(name))
    .map((entry) => entry.slice(name.length));
}

export function listNamespaces(id: string): string[] {
  return list(namespaceFolder).filter((name) => name.startsWith(namespacePrefix(id)));
}

/** Runs `ip netns …` alone among all labs: /run/netns itself comes and goes with the first and the last of them. */
export async function ipNetns(...args: string[]): Promise<void> {
  // One that still waits for its turn when its owner is killed must be found, or it makes the namespace afterwards.
  const owner = args[0] === 'del' ? undefined : /^tw([0-9a-f]+)-/.exec(args[1]!)?.[1];
  const env = owner === undefined ? process.env : { ...process.env, [ownerVariable]: owner };
  const result = await run('flock', ['/run', 'ip', 'netns', ...args], { env });
  if (result.status !== 0 && !(args[0] === 'del' && !existsSync(join(namespaceFolder, args[1]!))))
    throw new Error(`ip netns ${args.join(' ')}: ${result.stderr.trim()}`);
}

/**
 * Remembers that /run/netns is there only because of labs, so that the last one removes it: it was absent, or
 * another lab that is still there found it absent.
 */
export function markNamespaceFolder(id: string): void {
  const created = listOwners().some((owner) => existsSync(join(ownerDirectory(owner), createdMark)));
  if (created || !existsSync(namespaceFolder)) writeFileSync(join(ownerDirectory(id), createdMark), '');
}

/** The processes of a control group; none where it went meanwhile, as its container did. */
function membersOf(group: string): number[] {
  try {
    return readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').map(Number);
  } catch {
    return [];
  }
}

/** Everything that runs in one of the namespaces or control groups, or was started with the owner's id in its environment. */
function listProcesses(id: string): number[] {
  const namespaces = new Set(
    listNamespaces(id).map((name) => {
      try {
        return `net:[${statSync(join(namespaceFolder, name)).ino}]`;
      } catch {
        return '';
      }
    }),
  );
  const mark = `${ownerVariable}=${id}`;
  // A container that was killed while it was being made has not got its environment yet.
  const contained = new Set(listControlGroups(id).flatMap(membersOf));
  return list('/proc')
    .map(Number)
    .filter((pid) => {
      if (!(pid > 0) || pid === process.pid) return false;
      if (contained.has(pid)) return true;
      try {
        if (namespaces.has(readlinkSync(`/proc/${pid}/ns/net`))) return true;
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark);
      } catch {
        return false; // it ended meanwhile
      }
    });
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it ended meanwhile
    }
  }
}

async function removeNamespaceFolder(id: string): Promise<void> {
  if (!existsSync(join(ownerDirectory(id), createdMark))) return;
  const script = `rmdir ${namespaceFolder} 2>/dev/null && exit
    [ -z "$(ls -A ${namespaceFolder} 2>/dev/null)" ] && umount ${namespaceFolder} && rmdir ${namespaceFolder}`;
  await run('flock', ['/run', 'sh', '-c', script]);
}

/** A folder's own folders: in the kernel's file systems all else are files. */
function foldersIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
  } catch {
    return []; // it went meanwhile
  }
}

function withChildren(group: string): string[] {
  return [...foldersIn(group).flatMap(withChildren), group];
}

/** The control groups of an owner's containers, in the one hierarchy or in each of the older kind, children first. */
function listControlGroups(id: string): string[] {
  const root = '/sys/fs/cgroup';
  return [root, ...list(root).map((name) => join(root, name))].flatMap((folder) =>
    list(folder)
      .filter((name) => name.startsWith(controlGroupPrefix(id)))
      .flatMap((name) => withChildren(join(folder, name))),
  );
}

/**
 * Removes every process, namespace and file of an owner. What a dying owner had just begun (`ip netns add`) may
 * still finish, so it looks again until nothing is found.
 */
export async function cleanUp(id: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const processes = listProcesses(id);
    killAll(processes);
    const namespaces = listNamespaces(id);
    if (processes.length === 0) {
      if (namespaces.length === 0) break;
      await Promise.all(namespaces.map((name) => ipNetns('del', name)));
    }
    if (Date.now() > deadline)
      throw new Error(`lab ${id}: still there: ${[...processes, ...namespaces].join(' ')}`);
    await sleep(processes.length > 0 ? 10 : 0);
  }
  for (const group of listControlGroups(id)) if (existsSync(group)) rmdirSync(group);
  await removeNamespaceFolder(id);
  rmSync(ownerDirectory(id), { recursive: true, force: true });
}
