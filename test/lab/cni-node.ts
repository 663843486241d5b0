import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { type RunResult, run } from '../../src/kernel/process.ts';
import type { PodRecord } from '../../src/pods/plan/pod.ts';
import { podRecords } from './cni.ts';
import { makeNamespace, type Namespace } from './namespace.ts';

/** One subnet of each family, as `CniNode.start` takes them. */
export const dualStack = '10.244.0.0/16=10.244.7.0/24,fd00:244::/48=fd00:244:0:7::/64';

const root = join(import.meta.dirname, '../../..');
export const cniExecutable = join(root, 'dist/cni/twill');

export interface CniOptions {
  readonly containerId?: string;
  /** Path; undefined leaves CNI_NETNS out. */
  readonly netns?: string | undefined;
  readonly ifname?: string;
  /** Merged into the configuration; a string replaces it. */
  readonly config?: object | string;
  readonly environment?: NodeJS.ProcessEnv;
}

/** What the executable answered; `json` is its output, undefined when there was none. */
export interface CniOutcome extends RunResult {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into results of every version
  readonly json: any;
}

/** A container of its own for a test, with the executable called for it. */
export interface CniContainer {
  readonly pod: Namespace;
  readonly containerId: string;
  call(command: string, options?: CniOptions): Promise<CniOutcome>;
}

/** One whose ADD succeeded, with what that answered. */
export interface AddedContainer extends CniContainer {
  readonly result: CniOutcome['json'];
}

function commandLine([program = '', ...args]: readonly string[]): [program: string, args: string[]] {
  return [program, args];
}

/** A namespace that stands for a node, with a CNI server in it, and the executable called as a runtime does. */
export class CniNode {
  readonly namespace: Namespace;
  readonly directory: string;
  readonly socketPath: string;
  /** What the next server has: `NETWORK=SUBNET`, comma-separated. */
  subnets: string;
  private readonly namespaces: Namespace[] = [];
  private server: ChildProcess | undefined;
  /** Where the next server keeps its records. */
  stateDirectory: string;
  /** What the next server is started by, e.g. `nsenter` with its arguments. */
  launcher: readonly string[] = [];
  /** Options of Node that the next server is started with. */
  nodeOptions: readonly string[] = [];
  log = '';

  private constructor(namespace: Namespace, subnets: string) {
    this.namespace = namespace;
    this.subnets = subnets;
    this.directory = mkdtempSync(join(namespace.directory, 'cni-'));
    this.stateDirectory = this.directory;
    this.socketPath = join(this.directory, 'cni.sock');
  }

  /** @param subnets `NETWORK=SUBNET`, comma-separated; empty for a node that has no subnet yet */
  static async start(subnets = '10.244.0.0/16=10.244.7.0/24'): Promise<CniNode> {
    const node = new CniNode(await makeNamespace('node'), subnets);
    await node.startServer();
    return node;
  }

  async startServer(...extra: string[]): Promise<void> {
    const program = join(import.meta.dirname, 'cni-server.js');
    const server = this.namespace.spawn(
      ...commandLine([
        ...this.launcher,
        process.execPath,
        ...this.nodeOptions,
        ...[program, this.socketPath, this.stateDirectory, this.subnets, ...extra],
      ]),
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.server = server;
    server.stderr?.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    const ended = once(server, 'exit').then(() => {
      throw new Error(`the CNI server ended: ${this.log}`);
    });
    ended.catch(() => {});
    await Promise.race([once(server.stdout as NodeJS.ReadableStream, 'data'), ended]);
  }

  get serverPid(): number {
    assert.ok(this.server?.pid, 'the server runs');
    return this.server.pid;
  }

  /** SIGSTOP makes it an agent that answers nobody, SIGCONT ends that. */
  signalServer(signal: NodeJS.Signals): void {
    this.server?.kill(signal);
  }

  async stopServer(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill(signal);
    await ended;
  }

  /** The server is killed, and what it knew of its pods is lost; pods themselves stand. */
  async killAndForgetPods(): Promise<void> {
    await this.stopServer('SIGKILL');
    rmSync(join(this.stateDirectory, 'pods'), { recursive: true });
  }

  /** A namespace for a pod; removed with the node. */
  async pod(): Promise<Namespace> {
    const pod = await makeNamespace('pod');
    this.namespaces.push(pod);
    return pod;
  }

  /** @param config merged into the configuration of all its calls */
  async container(config: object = {}): Promise<CniContainer> {
    const pod = await this.pod();
    const containerId = `container-${this.namespaces.length}`;
    const call = (command: string, options: CniOptions = {}): Promise<CniOutcome> => {
      const own = typeof options.config === 'string' ? options.config : { ...config, ...options.config };
      return this.call(command, { containerId, netns: pod.path, ...options, config: own });
    };
    return { pod, containerId, call };
  }

  /** A container that has its interface. */
  async added(options: CniOptions = {}, config: object = {}): Promise<AddedContainer> {
    const made = await this.container(config);
    const outcome = await made.call('ADD', options);
    assert.equal(outcome.status, 0, outcome.stdout);
    return { ...made, result: outcome.json };
  }

  /** What the server knows of its pods. */
  records(): Promise<PodRecord[]> {
    return podRecords(this.socketPath);
  }

  /** Names of the veths on the node's side. */
  async hostVeths(): Promise<string[]> {
    const links = JSON.parse(await this.namespace.exec('ip', ['-j', 'link', 'show', 'type', 'veth']));
    return links.map((link: { ifname: string }) => link.ifname);
  }

  /** Runs the executable as a container runtime does. */
  async call(command: string, options: CniOptions = {}): Promise<CniOutcome> {
    const { containerId = 'c1', ifname = 'eth0', netns, config = {} } = options;
    const defaults = { cniVersion: '1.0.0', name: 'twill', type: 'twill', socket: this.socketPath };
    const input = typeof config === 'string' ? config : JSON.stringify({ ...defaults, ...config });
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_IFNAME: ifname,
      CNI_PATH: '/opt/cni/bin',
      ...(netns === undefined ? {} : { CNI_NETNS: netns }),
      ...options.environment,
    };
    const result = await run(cniExecutable, [], { input, env });
    return { ...result, json: result.stdout.trim() === '' ? undefined : JSON.parse(result.stdout) };
  }

  async close(): Promise<void> {
    await this.stopServer('SIGKILL');
    for (const pod of this.namespaces) await pod.remove();
    await this.namespace.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Runs `work` on a fresh node and removes everything whatever happens. */
export async function withCniNode<T>(work: (node: CniNode) => Promise<T>, subnets?: string): Promise<T> {
  const node = await CniNode.start(subnets);
  try {
    return await work(node);
  } finally {
    await node.close();
  }
}

/** One node for all tests of the file that calls this. */
export function sharedCniNode(subnets?: string): { readonly node: CniNode } {
  let node: CniNode | undefined;
  before(async () => {
    node = await CniNode.start(subnets);
  });
  after(() => node?.close());
  return {
    get node() {
      assert.ok(node, 'the node is there while tests run');
      return node;
    },
  };
}

/** Runs `work` on a fresh node with a client outside of it, and removes everything whatever happens. */
export function withOutsideClient<T>(
  work: (node: CniNode, client: Namespace) => Promise<T>,
  subnets?: string,
): Promise<T> {
  return withCniNode(async (node) => {
    const client = await outsideClient(node);
    try {
      return await work(node, client);
    } finally {
      await client.remove();
    }
  }, subnets);
}

/** A namespace on a link of its own with the node, which is 192.0.2.1 and 2001:db8::1 there. */
async function outsideClient(node: CniNode): Promise<Namespace> {
  const client = await makeNamespace('outside');
  await node.namespace.ip(`link add uplink type veth peer name eth0 netns ${client.name}`);
  await node.namespace.ip('addr add 192.0.2.1/24 dev uplink', 'link set uplink up');
  await node.namespace.ip('addr add 2001:db8::1/64 dev uplink nodad');
  await client.ip('addr add 192.0.2.9/24 dev eth0', 'addr add 2001:db8::9/64 dev eth0 nodad');
  await client.ip('link set eth0 up', 'route add default via 192.0.2.1', 'route add default via 2001:db8::1');
  node.namespace.sysctl({ 'net/ipv4/ip_forward': '1', 'net/ipv6/conf/all/forwarding': '1' });
  return client;
}

/**
 * A refused TCP connection is an answer: a packet went there and one came back.
 * @param seconds less where none is to come: a machine may be busy
 */
export async function assertReaches(from: Namespace, address: string, seconds = 20): Promise<void> {
  const result = await from.run('timeout', [`${seconds}`, 'bash', '-c', `exec 3<>/dev/tcp/${address}/9`]);
  assert.match(result.stderr, /Connection refused/, `${from.name} does not reach ${address}`);
}

/** A TCP server in a namespace that says `name` to whoever connects; it ends with the namespace. */
export async function serveName(namespace: Namespace, name: string, port: number): Promise<void> {
  const program = `require('node:net').createServer((s) => s.on('error', () => {}).end(${JSON.stringify(name)}))
    .listen(${port}, '::', () => console.log('ready'))`;
  const server = namespace.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(server.stdout as NodeJS.ReadableStream, 'data');
}

/** What a TCP server says; undefined when it is not reached. */
export async function fetchFrom(
  namespace: Namespace,
  address: string,
  port: number,
): Promise<string | undefined> {
  const result = await namespace.run('timeout', ['8', 'bash', '-c', `cat </dev/tcp/${address}/${port}`]);
  return result.status === 0 ? result.stdout : undefined;
}
