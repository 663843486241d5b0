import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RunResult, run } from '../../src/kernel/process.ts';
import { controlGroupPrefix, ownerVariable } from './cleanup.ts';
import { twillProgram } from './files.ts';
import type { LabNode } from './node.ts';
import { LabProcess } from './process.ts';
import { waitFor } from './wait.ts';

const busybox = '/bin/busybox';

/** The CRI plugin has it set up `lo`. */
const loopbackPlugin = '/usr/lib/cni/loopback';

/**
 * Runtime and ctr read /etc/cni/net.d and /opt/cni/bin, libcni writes below /var/lib, shims and the namespaces of pods
 * are below /run: in a mount namespace of its own, containerd sees folders of the lab's there.
 */
const mountScript = `
  set -e
  mount --make-rprivate /
  mount -t tmpfs none /var/lib
  mount -t tmpfs none /opt
  mkdir -p /opt/cni/bin /opt/etc /opt/work
  cp ${loopbackPlugin} $TWILL_PLUGINS /opt/cni/bin
  mount -t overlay none -o lowerdir=/etc,upperdir=/opt/etc,workdir=/opt/work /etc
  mount -t tmpfs none /run
  if [ -n "$TWILL_CONFLIST" ]; then
    mkdir -p /etc/cni/net.d
    printf %s "$TWILL_CONFLIST" >/etc/cni/net.d/10-flannel.conflist
  else
    "$TWILL_PROGRAM" install-cni --cni-socket="$TWILL_SOCKET"
  fi
  exec containerd --config "$TWILL_CONFIG"
`;

/** Another network than Twill's: a configuration, and the plugins that it names. */
export interface OtherNetwork {
  readonly conflist: object;
  readonly plugins: readonly string[];
}

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
  readonly socket: string;
  /** Files for containers: busybox and a page that names the node. */
  readonly rootfs: string;
  readonly directory: string;
  /** A name that nobody serves: it has to be imported. */
  readonly sandboxImage = 'images.invalid/sandbox:1';
  private readonly node: LabNode;

  private constructor(node: LabNode, network: OtherNetwork | undefined) {
    this.node = node;
    this.directory = join(node.dir, 'containerd');
    this.socket = join(this.directory, 'containerd.sock');
    this.rootfs = join(this.directory, 'rootfs');
    mkdirSync(this.directory);
    const config = join(this.directory, 'config.toml');
    writeFileSync(config, this.configuration());
    // `ip netns exec` hides /sys/fs/cgroup from what it runs: back to the mounts of this process first.
    this.process = new LabProcess({
      name: `containerd of ${node.name}`,
      namespace: node.namespace,
      program: 'nsenter',
      args: [`--target=${process.pid}`, '--mount', '--root', 'unshare', '--mount', 'sh', '-c', mountScript],
      cwd: this.directory,
      logFile: join(this.directory, 'containerd.log'),
      env: {
        TWILL_PROGRAM: twillProgram,
        TWILL_SOCKET: node.cniSocket,
        TWILL_CONFIG: config,
        TMPDIR: this.directory,
        TWILL_PLUGINS: (network?.plugins ?? []).join(' '),
        TWILL_CONFLIST: network === undefined ? '' : JSON.stringify(network.conflist),
      },
    });
  }

  /** @throws Error when something that it needs is not installed */
  static async start(node: LabNode, network?: OtherNetwork): Promise<Containerd> {
    const missing = ['/usr/bin/containerd', '/usr/sbin/runc', busybox, loopbackPlugin].filter(
      (path) => !existsSync(path),
    );
    if (missing.length > 0) throw new Error(`not installed: ${missing.join(', ')}`);
    const runtime = new Containerd(node, network);
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

  /**
   * What runs another program among containerd's mounts. An agent has to be there to see the network namespaces that
   * the CRI plugin makes: on a node both are among the node's.
   */
  get amongItsMounts(): string[] {
    return ['nsenter', `--target=${this.process.pid}`, '--mount', '--root'];
  }

  private configuration(): string {
    return `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
[grpc]
address = "${this.socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${this.sandboxImage}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
`;
  }

  private enter(): string[] {
    // From a folder that exists in there: the CNI executable inherits it.
    const ctr = ['sh', '-c', 'cd / && exec ctr "$@"', 'ctr', '--address', this.socket];
    const [, ...mounts] = this.amongItsMounts;
    return [...mounts, '--net', ...ctr];
  }

  private makeRootfs(): void {
    for (const folder of ['bin', 'dev', 'proc', 'sys', 'tmp', 'www'])
      mkdirSync(join(this.rootfs, folder), { recursive: true });
    copyFileSync(busybox, join(this.rootfs, busybox));
    symlinkSync('busybox', join(this.rootfs, 'bin/sh'));
    writeFileSync(join(this.rootfs, 'www/index.html'), `${this.node.name}\n`);
  }
}
