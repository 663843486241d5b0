// A machine of its own for a test, with another kernel than this one's, or of another architecture: emulated, so that
// nothing is asked of the host. It sees this machine's files, or those of a folder, and writes none of them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ArchiveEntry, writeArchive } from './cpio.ts';
import { root } from './files.ts';
import { sharedGuard } from './guard.ts';

/** Where tools/debian.mjs unpacks Debian's kernel. */
const kernelFolder = join(root, 'node_modules/.cache/debian-kernel');
/** What the first steps need; the rest is loaded when the kernel asks for it. */
const firstModules = ['virtio_pci', '9pnet_virtio', '9p', 'overlay'];
const timeLimitMs = 14 * 60_000;
const processors = {
  // Of more that `max` has, emulating signed pointers alone would take half of the time.
  arm64: {
    program: 'qemu-system-aarch64',
    options: ['-M', 'virt', '-cpu', 'cortex-a72'],
    console: 'ttyAMA0',
  },
  x64: { program: 'qemu-system-x86_64', options: ['-M', 'pc', '-cpu', 'max'], console: 'ttyS0' },
};

/** What a machine is made of. All paths but `files` are as the machine sees them. */
export interface MachineSystem {
  readonly architecture: keyof typeof processors;
  /** A folder of this machine's that is the root folder of the other one. */
  readonly files: string;
  /** Where `boot` and `lib/modules` of its kernel are. */
  readonly kernelFolder: string;
  /** Where commands are run. */
  readonly folder: string;
}

/** Programs and libraries are this machine's own. */
const ownSystem: MachineSystem = {
  architecture: process.arch === 'arm64' ? 'arm64' : 'x64',
  files: '/',
  kernelFolder,
  folder: root,
};

export interface MachineOptions {
  readonly system?: MachineSystem;
  /** On the kernel's command line, e.g. `ipv6.disable=1`. */
  readonly kernel?: string;
  /** Modules that this kernel does not have, e.g. `br_netfilter`. */
  readonly without?: readonly string[];
}

/** @returns the modules and what they depend on, in the order in which they can be loaded */
function loadOrder(folder: string, wanted: readonly string[]): string[] {
  const needs = new Map(
    readFileSync(join(folder, 'modules.dep'), 'utf8')
      .split('\n')
      .map((line) => line.split(': ') as [string, string?])
      .map(([path, others = '']) => [path.replace(/:$/, ''), others.split(' ').filter((one) => one !== '')]),
  );
  const order: string[] = [];
  const add = (path: string): void => {
    for (const other of [...(needs.get(path) ?? [])].reverse()) add(other);
    if (!order.includes(path)) order.push(path);
  };
  for (const name of wanted) {
    const path = [...needs.keys()].find((one) => one.endsWith(`/${name}.ko`));
    if (path !== undefined) add(path);
  }
  return order;
}

/** The first program of the machine. It ends with the machine, which says the program's status last. */
function firstProgram(system: MachineSystem, command: string, without: readonly string[]): string {
  const { folder } = system;
  return `#!/bin/busybox sh
b=/bin/busybox
for f in proc:proc sysfs:sys devtmpfs:dev; do $b mount -t \${f%:*} \${f%:*} /\${f#*:}; done
for m in /modules/*; do $b insmod $m; done
$b mount -t 9p -o trans=virtio,ro,version=9p2000.L,msize=512000,cache=loose host /low
$b mount -t tmpfs tmpfs /up
$b mkdir /up/upper /up/work
$b mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work overlay /root
$b mkdir -p /lib/modules /root/lib/modules
$b mount --bind /low${join(system.kernelFolder, 'lib/modules')} /lib/modules
for m in ${without.join(' ')}; do
  for f in $($b find /lib/modules/ -name "$m.ko"); do $b mount --bind /dev/null $f; done
done
$b mount --rbind /lib/modules /root/lib/modules
for f in proc sys dev; do $b mount --move /$f /root/$f; done
for f in run tmp; do $b mount -t tmpfs tmpfs /root/$f; done
# The repository may be below one of these.
[ -d /root${folder} ] || { $b mkdir -p /root${folder}; $b mount --bind /low${folder} /root${folder}; }
# The kernel calls the one that is in its own root folder, iptables the other.
$b ln -s $b /run/modprobe
$b cp $b /root/run/busybox
$b ln -s busybox /root/run/modprobe
echo /run/modprobe >/root/proc/sys/kernel/modprobe
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
$b chroot /root /bin/sh -c 'ip link set lo up; cd ${folder}; ${command}; echo "status: $?"'
$b sync
$b poweroff -f
`;
}

function archive(system: MachineSystem, version: string, init: string): Buffer {
  const modules = join(system.files, system.kernelFolder, 'lib/modules', version);
  const folders = ['bin', 'dev', 'proc', 'sys', 'modules', 'low', 'up', 'root', 'run'];
  const entries: ArchiveEntry[] = [
    ...folders.map((name) => ({ name, mode: 0o40755 })),
    { name: 'dev/console', mode: 0o20600, device: [5, 1] },
    { name: 'bin/busybox', mode: 0o100755, data: readFileSync(join(system.files, 'bin/busybox')) },
    { name: 'init', mode: 0o100755, data: Buffer.from(init) },
    ...loadOrder(modules, firstModules).map((path, at) => ({
      name: `modules/${String(at).padStart(2, '0')}.ko`,
      mode: 0o100644,
      data: readFileSync(join(modules, path)),
    })),
  ];
  return writeArchive(entries);
}

/**
 * Boots a machine, runs a command in it and waits for its end. What the machine says, the kernel included, comes back.
 * @param command of a shell, in the repository's folder
 * @throws Error with what was said when the command fails, or the machine does not come to an end
 */
export async function runInMachine(command: string, options: MachineOptions = {}): Promise<string> {
  const { system = ownSystem, without = [], kernel = '' } = options;
  const { program, options: processor, console } = processors[system.architecture];
  const kernels = join(system.files, system.kernelFolder);
  const [version = ''] = readdirSync(join(kernels, 'lib/modules'));
  const guard = await sharedGuard();
  const directory = mkdtempSync(join(guard.directory, 'machine-'));
  const initrd = join(directory, 'initrd');
  writeFileSync(initrd, archive(system, version, firstProgram(system, command, without)));
  // No acceleration: it is not there everywhere, and where it is nested it may hang.
  const args = [
    ...['-accel', 'tcg', '-smp', '2', '-m', '1500', ...processor],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
    ...['-kernel', join(kernels, 'boot', `vmlinuz-${version}`), '-initrd', initrd],
    ...[
      '-virtfs',
      `local,path=${system.files},mount_tag=host,security_model=none,readonly=on,multidevs=remap`,
    ],
    '-append',
    `console=${console} quiet panic=-1 mitigations=off audit=0 ${kernel}`,
  ];
  const machine = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: guard.environment,
  });
  let said = '';
  for (const stream of [machine.stdout, machine.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  const limit = setTimeout(() => machine.kill('SIGKILL'), timeLimitMs);
  try {
    await once(machine, 'close');
  } finally {
    clearTimeout(limit);
    rmSync(directory, { recursive: true, force: true });
  }
  if (!/^status: 0\r?$/m.test(said)) throw new Error(`the machine did not do its work:\n${said}`);
  return said;
}
