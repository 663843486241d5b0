/** A node of the lab as a machine of its own: beside its network it has files, processes, a name and control groups. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunOptions, RunResult } from '../../../src/kernel/process.ts';
import { controlGroupPrefix } from '../cleanup.ts';
import type { LabNode } from '../node.ts';
import { LabProcess } from '../process.ts';
import { waitFor } from '../wait.ts';

/** What a kubelet writes, and what belongs to the whole machine: it finds that all is as it wants it. */
const settings = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
};

/**
 * This machine's files are below; what is written goes into a layer of the node's own, but for a few folders that need
 * a real file system. With the older control groups each hierarchy has a folder of the node's.
 */
const script = `
  set -e
  hostname "$NODE"
  for group in $GROUPS_OF_NODE; do echo 0 >"$group/cgroup.procs"; done
  exec unshare --cgroup sh -ec '
    mount --make-rprivate /
    mount -t overlay none -o "lowerdir=/,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
    cd "$DIR/root"
    mount -t proc -o nosuid,nodev,noexec proc proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs sys
    mount --rbind /dev dev
    mount -t tmpfs -o mode=755 none run
    mount -t tmpfs -o mode=1777 none tmp
    mkdir -p ".$LAB"
    mount --bind "$LAB" ".$LAB"
    for folder in var/lib var/log etc/cni opt; do
      mkdir -p "$DIR/own/$folder" "$folder"
      mount --bind "$DIR/own/$folder" "$folder"
    done
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
      mount -t cgroup2 cgroup sys/fs/cgroup
      mkdir -p sys/fs/cgroup/init
      echo 0 >sys/fs/cgroup/init/cgroup.procs
    else
      mount -t tmpfs -o mode=755 none sys/fs/cgroup
      for group in $GROUPS_OF_NODE; do
        hierarchy=\${group%/*}
        mkdir "sys/fs/cgroup/\${hierarchy##*/}"
        mount --bind "$group" "sys/fs/cgroup/\${hierarchy##*/}"
      done
    fi
    for file in $DIR/settings/*; do
      name=$(basename "$file" | tr . /)
      mount --bind "$file" "proc/sys/$name"
    done
    mkdir -p .old
    pivot_root . .old
    cd /
    umount -l /.old
    rmdir /.old
    # What containers are to see of mounts that come later.
    mount --make-rshared /
    touch /run/up
    # Its end is that of everything on the node; orphans are its children.
    while :; do sleep 3600 & wait $!; done'
`;

/** A folder in each hierarchy of control groups, made so that something can be put into it. */
function makeControlGroups(name: string): string[] {
  const root = '/sys/fs/cgroup';
  const unified = existsSync(join(root, 'cgroup.controllers'));
  const hierarchies = unified ? [root] : readdirSync(root).map((hierarchy) => join(root, hierarchy));
  return hierarchies.map((hierarchy) => {
    const group = join(hierarchy, name);
    mkdirSync(group);
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (!unified && existsSync(join(hierarchy, file)))
        writeFileSync(join(group, file), readFileSync(join(hierarchy, file)));
    return group;
  });
}

/** The only process that a process has started. */
function childOf(pid: number): number | undefined {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? undefined : Number(text.split(' ')[0]);
}

export class Host {
  readonly node: LabNode;
  /** On this machine, for what needs no other file system. */
  readonly directory: string;
  private readonly init: number;

  private constructor(node: LabNode, directory: string, init: number) {
    this.node = node;
    this.directory = directory;
    this.init = init;
  }

  static async start(node: LabNode): Promise<Host> {
    const directory = join(node.dir, 'host');
    for (const folder of ['upper', 'work', 'root', 'own', 'settings'])
      mkdirSync(join(directory, folder), { recursive: true });
    for (const [name, value] of Object.entries(settings))
      writeFileSync(join(directory, 'settings', name.replaceAll('/', '.')), `${value}\n`);
    const groups = makeControlGroups(`${controlGroupPrefix(node.guard.id)}${node.name}`);
    const process = new LabProcess({
      name: `host of ${node.name}`,
      namespace: node.namespace,
      program: 'nsenter',
      // `ip netns exec` hides /sys/fs/cgroup from what it runs: back to the mounts of this process first.
      args: [`--target=${globalThis.process.pid}`, '--mount', '--root'].concat(
        'unshare --mount --uts --pid --fork --kill-child sh -c'.split(' '),
        script,
      ),
      cwd: '/',
      logFile: join(directory, 'log'),
      env: {
        ...globalThis.process.env,
        DIR: directory,
        NODE: node.name,
        GROUPS_OF_NODE: groups.join(' '),
        LAB: node.guard.directory,
      },
    });
    await process.start();
    const init = await waitFor(
      `the host ${node.name}`,
      () => {
        const pid = childOf(process.pid);
        return pid !== undefined && existsSync(`/proc/${pid}/root/run/up`) && pid;
      },
      { explain: () => process.tail() },
    );
    return new Host(node, directory, init);
  }

  /** Where a file of the node's is to be found from here. */
  path(path: string): string {
    return join(`/proc/${this.init}/root`, path);
  }

  /** A long-running program on the node. */
  process(name: string, program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): LabProcess {
    return new LabProcess({
      name: `${name} of ${this.node.name}`,
      namespace: this.node.namespace,
      program: 'nsenter',
      args: [...this.enter(), program, ...args],
      cwd: '/',
      logFile: join(this.directory, `${name}.log`),
      // Its folder for temporary files is this node's own.
      env: { ...process.env, TMPDIR: '/tmp', ...env },
    });
  }

  /** Runs a program on the node to its end. */
  run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const env = { ...process.env, TMPDIR: '/tmp' };
    return this.node.namespace.run('nsenter', [...this.enter(), program, ...args], { env, ...options });
  }

  /** What `nsenter` is given before a program of the node's. Its control group is the node's, too. */
  private enter(): string[] {
    const groups = 'for g in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >$g; done 2>/dev/null; cd /; exec "$@"';
    const inside = ['--mount', '--uts', '--pid', '--cgroup', '--root', '--wd=/'];
    return [`--target=${this.init}`, ...inside, 'sh', '-c', groups, 'sh'];
  }
}
