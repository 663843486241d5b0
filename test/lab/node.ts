import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { callCni } from './cni.ts';
import { twillProgram } from './files.ts';
import type { Guard } from './guard.ts';
import type { Namespace } from './namespace.ts';
import { Place } from './place.ts';
import { Pod } from './pod.ts';
import { LabProcess } from './process.ts';
import { bridgeName, type Machine } from './underlay.ts';
import { GiveUp, waitFor } from './wait.ts';

export interface NodeOptions {
  readonly machine: Machine;
  readonly namespace: Namespace;
  readonly guard: Guard;
  readonly underlay: Namespace;
  readonly directory: string;
  readonly etcdEndpoint: string;
  readonly manifests: string;
  readonly clusterCidr: string;
}

const etcdPort = 2379;

/** A node: a namespace whose eth0 is on the underlay, with the twill processes started in it. */
export class LabNode extends Place {
  /** Where the node's files are: all nodes share one file system. */
  readonly dir: string;
  readonly guard: Guard;
  readonly pods: Pod[] = [];
  /** The agent, from the first `startAgent()` on. */
  agent: LabProcess | undefined;
  /** The proxy, from the first `startProxy()` on. */
  proxy: LabProcess | undefined;
  /** Words before the command line of agent and proxy, e.g. of a tracer; to be set before they start. */
  prefix: readonly string[] = [];
  private readonly options: NodeOptions;

  constructor(options: NodeOptions) {
    super(options.machine.name, options.namespace, options.machine);
    this.options = options;
    this.guard = options.guard;
    this.dir = options.directory;
    mkdirSync(this.dir, { recursive: true });
  }

  get stateDir(): string {
    return join(this.dir, 'state');
  }

  get cniSocket(): string {
    return join(this.dir, 'cni.sock');
  }

  get proxySocket(): string {
    return join(this.dir, 'proxy.sock');
  }

  /** What /var/lib/cni is on a node. */
  get cniDataDir(): string {
    return join(this.dir, 'cni-data');
  }

  get subnetFile(): string {
    return join(this.dir, 'subnet.env');
  }

  /** Programs that a test puts here come before the system's for what runs on the node. */
  get programs(): string {
    return join(this.dir, 'programs');
  }

  /** What the container runtime of this node would have in /etc/cni/net.d. */
  get netconf(): { cniVersion: string; name: string; type: string; socket: string } {
    return { cniVersion: '1.1.0', name: 'twill', type: 'twill', socket: this.cniSocket };
  }

  /**
   * Starts the agent and waits until it can wire pods and the subnet file stands.
   * @param extraArgs come after the lab's own, and so win over them
   * @param wait false: return when the process runs
   */
  async startAgent(extraArgs: readonly string[] = [], wait = true): Promise<LabProcess> {
    this.agent ??= this.makeProcess('agent', [
      `--etcd-endpoints=${this.options.etcdEndpoint}`,
      '--etcd-prefix=/coreos.com/network',
      '--ip-masq',
      `--subnet-file=${this.subnetFile}`,
      `--state-dir=${this.stateDir}`,
      `--cni-socket=${this.cniSocket}`,
      `--cni-data-dir=${this.cniDataDir}`,
      '--log-format=pretty',
    ]);
    const agent = this.agent;
    await agent.start(extraArgs);
    if (wait) await this.agentReady();
    return agent;
  }

  /** Resolves when the running agent has written its subnet file and can wire pods. */
  async agentReady(): Promise<void> {
    const agent = this.agent!;
    await waitFor(
      `the agent of ${this.name} to be ready`,
      async () => {
        if (!agent.running) throw new GiveUp(`${agent.name} has ended\n${agent.tail()}`);
        if (!existsSync(this.subnetFile) || !existsSync(this.cniSocket)) return false;
        // Files and a pod network of an earlier run say nothing about this one.
        return (await callCni(this.namespace, { command: 'STATUS', config: this.netconf })).status === 0;
      },
      { explain: () => agent.tail() },
    );
  }

  /** Starts the proxy; it serves the lab's manifests. @param extraArgs come after the lab's own, and so win over them */
  async startProxy(extraArgs: readonly string[] = []): Promise<LabProcess> {
    this.proxy ??= this.makeProcess('proxy', [
      `--manifests=${this.options.manifests}`,
      `--hostname-override=${this.name}`,
      `--cluster-cidr=${this.options.clusterCidr}`,
      `--inspect-socket=${this.proxySocket}`,
      '--log-format=pretty',
    ]);
    await this.proxy.start(extraArgs);
    return this.proxy;
  }

  /**
   * Makes a namespace and has the CNI plugin wire it.
   * @param netconfExtra is merged into the network configuration
   * @param podNamespace what Kubernetes' runtimes say beside the pod's name; undefined: they say neither
   */
  async addPod(name: string, netconfExtra: object = {}, podNamespace?: string): Promise<Pod> {
    const pod = await Pod.add(this, name, { ...this.netconf, ...netconfExtra }, podNamespace);
    this.pods.push(pod);
    return pod;
  }

  /** What stands in the node's kernel, in the words of the tools an operator would use. */
  async look(): Promise<string> {
    const commands = ['ip route', 'bridge fdb show dev flannel.1', 'iptables-save -t nat'];
    const sections = commands.map(async (command) => {
      const [program, ...args] = command.split(' ') as [string, ...string[]];
      const { stdout, stderr } = await this.namespace.run(program, args);
      return `${this.name}# ${command}\n${stdout}${stderr}`;
    });
    return (await Promise.all(sections)).join('\n');
  }

  /** Pulls the cable: eth0 loses its carrier, and keeps its addresses and routes. */
  async cutLink(): Promise<void> {
    await this.options.underlay.ip(`link set ${this.options.machine.port} down`);
  }

  async restoreLink(): Promise<void> {
    await this.options.underlay.ip(`link set ${this.options.machine.port} up`);
  }

  /** Changes the MTU at both ends of the node's link, in bytes. */
  async setMtu(mtu: number): Promise<void> {
    await this.setCableMtu(mtu);
    await this.namespace.ip(`link set eth0 mtu ${mtu}`);
  }

  /** Sets what the cable to the node carries, both ways; its own interface takes as much as before. */
  async setCableMtu(mtu: number): Promise<void> {
    await this.options.underlay.ip(`link set ${this.options.machine.port} mtu ${mtu}`);
  }

  /** Isolated nodes do not reach each other; etcd and everything else they do. */
  async isolate(isolated: boolean): Promise<void> {
    await this.options.underlay.ip(
      `link set ${this.options.machine.port} type bridge_slave isolated ${isolated ? 'on' : 'off'}`,
    );
  }

  /** Drops what the node sends to etcd, without an answer, until `unblockEtcd()`. */
  async blockEtcd(): Promise<void> {
    const { ipv4, ipv6 } = this.options.machine;
    const rules = [ipv4 && `ip saddr ${ipv4}`, ipv6 && `ip6 saddr ${ipv6}`]
      .filter((match) => match !== undefined)
      .map((match) => `add rule inet lab ${this.name} iif ${bridgeName} ${match} tcp dport ${etcdPort} drop`);
    const chain = `add chain inet lab ${this.name} { type filter hook input priority 0; }`;
    const document = ['add table inet lab', chain, ...rules];
    await this.options.underlay.exec('nft', ['-f', '-'], { input: `${document.join('\n')}\n` });
  }

  async unblockEtcd(): Promise<void> {
    await this.options.underlay.exec('nft', ['delete', 'chain', 'inet', 'lab', this.name]);
  }

  private makeProcess(command: string, args: readonly string[]): LabProcess {
    const words = [...this.prefix, twillProgram];
    const program = words.shift()!;
    return new LabProcess({
      name: `${command} of ${this.name}`,
      namespace: this.namespace,
      program,
      args: [...words, command, ...args],
      cwd: this.dir,
      logFile: join(this.dir, `${command}.log`),
      env: {
        XTABLES_LOCKFILE: join(this.dir, 'xtables.lock'),
        NODE_NAME: this.name,
        PATH: `${this.programs}:${process.env.PATH}`,
      },
    });
  }
}
