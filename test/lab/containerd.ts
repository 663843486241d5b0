import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RunResult, run } from '../../src/kernel/process.ts';
import { controlGroupPrefix, ownerVariable } from './cleanup.ts';
import { cniProgram } from './files.ts';
import type { LabNode } from './node.ts';
import { LabProcess } from './process.ts';
import { waitFor } from './wait.ts';

const busybox = '/bin/busybox';

/** Why containers cannot be run on this machine; undefined when they can. */
export function containersMissing(): string | undefined {
  const programs = { containerd: '/usr/bin/containerd', runc: '/usr/sbin/runc', 'busybox-static': busybox };
  const missing = Object.entries(programs).filter(([, path]) => !existsSync(path));
  return missing.length === 0 ? undefined : `not installed: ${missing.map(([name]) => name).join(', ')}`;
}

/**
 * ctr reads /etc/cni/net.d and /opt/cni/bin, libcni writes below /var/lib and the shims below /run: in a mount
 * namespace of its own, containerd sees folders of the lab's there.
 */
const mountScript = `
  set -e
  mount --make-rprivate /
  mount -t tmpfs none /var/lib
  mount -t tmpfs none /opt
  mkdir -p /opt/cni/bin /opt/etc /opt/work
  cp "$TWILL_CNI" /opt/cni/bin/twill
  mount -t overlay none -o lowerdir=/etc,upperdir=/opt/etc,workdir=/opt/work /etc
  mkdir -p /etc/cni/net.d
  cp "$TWILL_CONFLIST" /etc/cni/net.d/10-twill.conflist
  mount -t tmpfs none /run
  exec containerd --config "$TWILL_CONFIG"
`;

/** A container with busybox as its file system, started by `ctr run --cni`. */
export class Container {
  readonly id: string;
  private readonly runtime: Containerd;
  private readonly process: ChildProcess;
  private readonly output: Buffer[] = [];

  constructor(runtime: Containerd, id: string, process: ChildProcess) {
    this.runtime = runtime;
    this.id = id;
    this.process = process;
    process.stdout!.on('data', (chunk: Buffer) => this.output.push(chunk));
    process.stderr!.on('data', (chunk: Buffer) => this.output.push(chunk));
  }

  /** Runs a busybox applet inside. */
  exec(...args: string[]): Promise<RunResult> {
    const execId = `exec${Date.now()}${Math.random().toString(36).slice(2)}`;
    return this.runtime.ctr('task', 'exec', '--exec-id', execId, this.id, busybox, ...args);
  }

  /** The address that the CNI plugin gave its eth0. */
  async ipv4(): Promise<string> {
    return await waitFor(
      `container ${this.id} to have an address`,
      async () => /inet (\S+)\//.exec((await this.exec('ip', '-4', 'address', 'show', 'eth0')).stdout)?.[1],
      { explain: () => this.tail() },
    );
  }

  tail(): string {
    return `--- ctr run ${this.id}:\n${Buffer.concat(this.output)}\n${this.runtime.process.tail()}`;
  }

  /** Kills it; ctr then calls CNI DEL and removes it. @throws Error with ctr's output when that failed */
  async remove(): Promise<void> {
    const exited = once(this.process, 'exit');
    await this.runtime.ctr('task', 'kill', '--signal', 'SIGKILL', this.id);
    await exited;
    // A killed container is status 137; what matters is whether ctr complained about the network.
    const text = Buffer.concat(this.output).toString();
    if (/level=(error|warning)|ctr:/.test(text)) throw new Error(`removing ${this.id}: ${text}`);
  }
}

/** A real containerd on a node of the lab, with Twill as its CNI plugin. */
export class Containerd {
  readonly process: LabProcess;
  private readonly node: LabNode;
  private readonly socket: string;
  private readonly rootfs: string;
  private readonly directory: string;

  private constructor(node: LabNode) {
    this.node = node;
    this.directory = join(node.dir, 'containerd');
    this.socket = join(this.directory, 'containerd.sock');
    this.rootfs = join(this.directory, 'rootfs');
    mkdirSync(this.directory);
    const config = join(this.directory, 'config.toml');
    const conflist = join(this.directory, '10-twill.conflist');
    const { cniVersion, name, ...plugin } = node.netconf;
    // The containerd of Debian 12 speaks CNI 1.0.0 at most.
    writeFileSync(conflist, JSON.stringify({ cniVersion: cniVersion && '1.0.0', name, plugins: [plugin] }));
    writeFileSync(
      config,
      `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${this.socket}"
`,
    );
    // `ip netns exec` hides /sys/fs/cgroup from what it runs: back to the mounts of this process first.
    this.process = new LabProcess({
      name: `containerd of ${node.name}`,
      namespace: node.namespace,
      program: 'nsenter',
      args: [`--target=${process.pid}`, '--mount', '--root', 'unshare', '--mount', 'sh', '-c', mountScript],
      cwd: this.directory,
      logFile: join(this.directory, 'containerd.log'),
      env: { TWILL_CNI: cniProgram, TWILL_CONFLIST: conflist, TWILL_CONFIG: config, TMPDIR: this.directory },
    });
  }

  static async start(node: LabNode): Promise<Containerd> {
    const runtime = new Containerd(node);
    runtime.makeRootfs();
    await runtime.process.start();
    await waitFor(`containerd of ${node.name}`, async () => (await runtime.ctr('version')).status === 0, {
      explain: () => runtime.process.tail(),
    });
    return runtime;
  }

  /** Starts a container that runs a busybox applet. */
  run(name: string, ...args: string[]): Container {
    const id = `${this.node.guard.id}-${name}`;
    const environment = `${ownerVariable}=${this.node.guard.id}`;
    const process = this.node.namespace.spawn(
      'nsenter',
      [
        ...this.enter(),
        'run',
        '--rm',
        '--cni',
        `--cgroup=/${controlGroupPrefix(this.node.guard.id)}${name}`,
        `--env=${environment}`,
        '--rootfs',
        this.rootfs,
        id,
        busybox,
        ...args,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    return new Container(this, id, process);
  }

  /** Runs ctr to its end. */
  ctr(...args: string[]): Promise<RunResult> {
    return run('nsenter', [...this.enter(), ...args]);
  }

  private enter(): string[] {
    // From a folder that exists in there: the CNI executable inherits it.
    const ctr = ['sh', '-c', 'cd / && exec ctr "$@"', 'ctr', '--address', this.socket];
    return [`--target=${this.process.pid}`, '--mount', '--root', '--net', ...ctr];
  }

  private makeRootfs(): void {
    for (const folder of ['bin', 'dev', 'proc', 'sys', 'tmp', 'www'])
      mkdirSync(join(this.rootfs, folder), { recursive: true });
    copyFileSync(busybox, join(this.rootfs, busybox));
    symlinkSync('busybox', join(this.rootfs, 'bin/sh'));
    writeFileSync(join(this.rootfs, 'www/index.html'), `${this.node.name}\n`);
  }
}
