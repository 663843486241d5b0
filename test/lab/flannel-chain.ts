import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RunResult } from '../../src/kernel/process.ts';
import type { Namespace } from './namespace.ts';

/** Where Debian has the plugins. */
export const pluginFolder = '/usr/lib/cni';

export interface ChainOptions {
  /** The node's namespace. */
  readonly node: Namespace;
  /** What /var/lib/cni is on it. */
  readonly dataDir: string;
  /** The node's subnet and the pod network. */
  readonly subnet: string;
  readonly network: string;
  /** And of IPv6, in a network of both families. */
  readonly subnet6?: string;
  /** Default cni0. */
  readonly bridge?: string;
  /** The network's name; default cbr0. */
  readonly name?: string;
  /** The pods' interface; default eth0. */
  readonly ifname?: string;
  /** Options of the bridge plugin beside flannel's own. */
  readonly delegate?: object;
  /** Options of the portmap plugin beside flannel's own. */
  readonly portmap?: object;
  /** The bandwidth plugin's, which comes last where they are given. */
  readonly bandwidth?: object;
  /** Whether the firewall plugin comes then. */
  readonly firewall?: boolean;
  /** A folder of programs that the plugins take before others. */
  readonly programs?: string;
}

/** A plugin of the chain, with its options. */
interface PluginOptions {
  readonly type: string;
  readonly [option: string]: unknown;
}

/** One pod that the chain made. */
export interface ChainPod {
  readonly containerId: string;
  readonly netns: string;
  readonly runtimeConfig: object;
  // biome-ignore lint/suspicious/noExplicitAny: a result of a plugin
  readonly result: any;
}

/**
 * The plugins that flannel's conflist calls, with the configuration that flannel's own plugin hands on: bridge with
 * host-local, then portmap. The real programs.
 */
export class FlannelChain {
  private readonly options: ChainOptions;

  constructor(options: ChainOptions) {
    this.options = options;
    mkdirSync(options.dataDir, { recursive: true });
  }

  private get name(): string {
    return this.options.name ?? 'cbr0';
  }

  private get bridge(): object {
    const { subnet, subnet6, network, dataDir, bridge = 'cni0' } = this.options;
    return {
      cniVersion: '1.0.0',
      name: this.name,
      type: 'bridge',
      bridge,
      mtu: 1450,
      hairpinMode: true,
      isGateway: true,
      isDefaultGateway: true,
      ipMasq: false,
      ...this.options.delegate,
      ipam: {
        type: 'host-local',
        dataDir: join(dataDir, 'networks'),
        ranges: [[{ subnet }], ...(subnet6 === undefined ? [] : [[{ subnet: subnet6 }]])],
        routes: [{ dst: network }],
      },
    };
  }

  private plugin(own: PluginOptions, prevResult: unknown): object {
    return { cniVersion: '1.0.0', name: this.name, ...own, prevResult };
  }

  private portmap(runtimeConfig: object): PluginOptions {
    return { type: 'portmap', snat: true, ...this.options.portmap, runtimeConfig };
  }

  /** The plugins that come after the bridge plugin. */
  private later(runtimeConfig: object): PluginOptions[] {
    const { bandwidth, firewall } = this.options;
    return [
      this.portmap(runtimeConfig),
      ...(bandwidth === undefined ? [] : [{ type: 'bandwidth', ...bandwidth }]),
      ...(firewall === true ? [{ type: 'firewall', backend: 'iptables' }] : []),
    ];
  }

  private async call(command: string, pod: Omit<ChainPod, 'result'>, config: object): Promise<RunResult> {
    const { programs } = this.options;
    const env = {
      PATH: programs === undefined ? process.env.PATH : `${programs}:${process.env.PATH}`,
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod.containerId,
      CNI_NETNS: pod.netns,
      CNI_IFNAME: this.options.ifname ?? 'eth0',
      CNI_PATH: pluginFolder,
    };
    const { type } = config as { type: string };
    const outcome = await this.options.node.run(join(pluginFolder, type), [], {
      env,
      input: JSON.stringify(config),
    });
    assert.equal(outcome.status, 0, `${type} ${command}: ${outcome.stdout}${outcome.stderr}`);
    return outcome;
  }

  async add(containerId: string, netns: string, runtimeConfig: object = {}): Promise<ChainPod> {
    const pod = { containerId, netns, runtimeConfig };
    let result = JSON.parse((await this.call('ADD', pod, this.bridge)).stdout);
    for (const own of this.later(runtimeConfig))
      result = JSON.parse((await this.call('ADD', pod, this.plugin(own, result))).stdout);
    return { ...pod, result };
  }

  async remove(pod: ChainPod): Promise<void> {
    await this.call('DEL', pod, this.plugin(this.portmap(pod.runtimeConfig), pod.result));
    await this.call('DEL', pod, this.bridge);
  }
}
