import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../kernel/process.ts';
import { listSysctls, readSysctl } from '../kernel/sysctl.ts';
import { describeError } from '../model/error.ts';
import { readFileIfPresent } from '../process/files.ts';
import { readEnds } from '../process/regular-file.ts';

/** A part of the report: a file's name, and what comes in it. */
export interface Piece {
  readonly name: string;
  readonly read: () => Promise<string> | string;
}

const COMMAND_MS = 15_000;
/** Characters of one file. */
export const MOST_OF_ONE = 4 * 1024 * 1024;
/** Bytes of what a command prints: with its own line a file has no more than it may. */
const MOST_OUTPUT = MOST_OF_ONE - 4096;

/** A command, with what it says of itself and how it ended. */
export function command(name: string, ...[program, ...args]: [string, ...string[]]): Piece {
  return {
    name,
    async read() {
      const { status, stdout, stderr } = await run(program, args, {
        timeoutMs: COMMAND_MS,
        mostOutput: MOST_OUTPUT,
      });
      const failed = status === 0 ? '' : `(status ${status}) ${stderr}\n`;
      return `# ${[program, ...args].join(' ')}\n${failed}${stdout}`;
    },
  };
}

/** What stands in the kernel, as an operator would ask for it. */
export const kernelPieces: readonly Piece[] = [
  command('kernel/version.txt', 'uname', '-a'),
  command('kernel/modules.txt', 'lsmod'),
  command('kernel/links.txt', 'ip', '-d', '-s', 'link'),
  command('kernel/addresses.txt', 'ip', 'address'),
  command('kernel/rules.txt', 'ip', 'rule'),
  command('kernel/routes.txt', 'ip', 'route', 'show', 'table', 'all'),
  command('kernel/routes6.txt', 'ip', '-6', 'route', 'show', 'table', 'all'),
  command('kernel/nexthops.txt', 'ip', 'nexthop'),
  command('kernel/neighbours.txt', 'ip', 'neigh'),
  command('kernel/fdb.txt', 'bridge', 'fdb'),
  command('kernel/bridge.txt', 'bridge', '-d', 'link'),
  command('kernel/sockets.txt', 'ss', '-lntu'),
  command('kernel/conntrack.txt', 'conntrack', '-S'),
  { name: 'kernel/sysctls.txt', read: sysctls },
  { name: 'node/os-release.txt', read: () => readFileIfPresent('/etc/os-release') ?? 'none' },
  command('node/memory.txt', 'free', '-m'),
  command('node/disks.txt', 'df', '-h'),
];

const folders = ['net/ipv4', 'net/ipv6/conf/all', 'net/bridge', 'net/netfilter', 'net/ipv4/neigh/default'];

/** Settings of the network, and of each interface what decides about forwarding and filtering. */
function sysctls(): string {
  const lines: string[] = [];
  const add = (name: string): void => {
    try {
      const value = readSysctl(name);
      if (value !== undefined) lines.push(`${name} = ${value.replaceAll('\n', ' ')}`);
    } catch {
      // a folder, or one that cannot be read
    }
  };
  for (const folder of folders) for (const name of listSysctls(folder)) add(`${folder}/${name}`);
  for (const device of listSysctls('net/ipv4/conf'))
    for (const name of ['rp_filter', 'forwarding', 'route_localnet', 'arp_ignore'])
      add(`net/ipv4/conf/${device}/${name}`);
  return lines.join('\n');
}

/** What is in the directory; one that is not there, or goes meanwhile, has nothing. */
function pathsIn(directory: string): string[] {
  try {
    return readdirSync(directory).map((name) => join(directory, name));
  } catch {
    return [];
  }
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

const filesIn = (directory: string): string[] => pathsIn(directory).filter(isFile);

/** A path's last part, as short and plain as a name in an archive has to be. */
const baseName = (path: string): string =>
  path
    .slice(path.lastIndexOf('/') + 1)
    .replace(/[^\x20-\x7e]/g, '_')
    .slice(0, 60);

/** Bytes of a log that are looked at: of more than a report takes. */
const MOST_OF_LOG = 16 * 1024 * 1024;

/** Files by which agent, proxy and the runtime work. */
export function filePieces(paths: readonly string[], cniConfDir: string): Piece[] {
  return [...paths, ...filesIn(cniConfDir)].map((path) => ({
    name: `files/${baseName(path)}`,
    read: () => `# ${path}\n${readFileIfPresent(path) ?? '(not there)'}`,
  }));
}

/** Where kubelets keep what containers have said. */
const POD_LOGS = '/var/log/pods';

function podLogs(): Piece[] {
  const ours = pathsIn(POD_LOGS).filter((path) => baseName(path).includes('twill'));
  return ours.flatMap(pathsIn).flatMap((container) =>
    filesIn(container)
      // The kubelet packs those that are older.
      .filter((path) => !path.endsWith('.gz'))
      .map((path) => ({
        name: `logs/${baseName(container).slice(0, 30)}-${baseName(path)}`,
        read: () => readEnds(path, MOST_OF_LOG),
      })),
  );
}

const UNIT_LINES = '5000';

/** Logs of agent and proxy: systemd's, the kubelet's, and files that are named. */
export function logPieces(files: readonly string[]): Piece[] {
  const units = ['twill-agent', 'twill-proxy'].map((unit) =>
    command(`logs/${unit}.journal.txt`, 'journalctl', '-u', unit, '-n', UNIT_LINES, '--no-pager'),
  );
  const named = files.map((path) => ({
    name: `logs/${baseName(path)}`,
    read: () => readEnds(path, MOST_OF_LOG),
  }));
  return [...(existsSync('/run/systemd/system') ? units : []), ...podLogs(), ...named];
}

/** What a piece says, or why there is nothing. */
export async function readPiece({ read }: Piece): Promise<string> {
  try {
    return await read();
  } catch (error) {
    return `(not known: ${describeError(error)})\n`;
  }
}
