// Twill as the first of a chain, with the real plugins that people put behind it, called as libcni calls them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, cniExecutable, sharedCniNode } from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';

/** Where Debian's containernetworking-plugins has them. */
const plugins = '/usr/lib/cni';
const shared = sharedCniNode();

interface Plugin {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A network configuration list as a runtime carries it out: each plugin gets the result of the one before. */
class Chain {
  private readonly node: CniNode;
  private readonly version: string;
  private readonly list: readonly Plugin[];
  private readonly pod: Namespace;
  private readonly containerId = `chain-${randomUUID()}`;
  private result: object | undefined;

  constructor(node: CniNode, version: string, pod: Namespace, list: readonly Plugin[]) {
    this.node = node;
    this.version = version;
    this.list = [{ type: 'twill', socket: node.socketPath }, ...list];
    this.pod = pod;
    const iptables = join(node.directory, 'iptables');
    if (!existsSync(iptables)) symlinkSync('/usr/sbin/iptables', iptables);
  }

  async add(): Promise<void> {
    for (const plugin of this.list) this.result = JSON.parse(await this.call('ADD', plugin));
  }

  /** Each plugin gets the last result. */
  async check(): Promise<void> {
    for (const plugin of this.list) await this.call('CHECK', plugin);
  }

  async delete(): Promise<void> {
    for (const plugin of [...this.list].reverse()) await this.call('DEL', plugin);
  }

  private async call(command: string, plugin: Plugin): Promise<string> {
    const isOwn = plugin.type === 'twill';
    // Debian's plugins do not know 1.1.0; its results are 1.0.0's with more fields.
    const cniVersion = isOwn || this.version !== '1.1.0' ? this.version : '1.0.0';
    const prevResult = this.result === undefined ? {} : { prevResult: { ...this.result, cniVersion } };
    const config = { cniVersion, name: 'chained', ...plugin, ...prevResult };
    const program = isOwn ? cniExecutable : join(plugins, plugin.type);
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: this.containerId,
      CNI_NETNS: this.pod.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: plugins,
    };
    // portmap 1.1.1 wants IPv6's chain of an IPv4 pod where there is ip6tables.
    const path = `PATH=${plugin.type === 'portmap' ? this.node.directory : process.env.PATH}`;
    const input = JSON.stringify(config);
    const outcome = await this.node.namespace.run('env', [path, program], { input, env });
    assert.equal(
      outcome.status,
      0,
      `${command} ${plugin.type} ${this.version}: ${outcome.stdout}${outcome.stderr}`,
    );
    return outcome.stdout;
  }
}

const chains: readonly [what: string, list: readonly Plugin[]][] = [
  [
    'tuning changes MAC, MTU and sysctls',
    [
      {
        type: 'tuning',
        mac: '02:11:22:33:44:55',
        mtu: 1300,
        sysctl: { 'net.ipv4.conf.eth0.arp_filter': '1' },
      },
    ],
  ],
  [
    'portmap has the host ports',
    [
      {
        type: 'portmap',
        runtimeConfig: { portMappings: [{ hostPort: 9191, containerPort: 80, protocol: 'tcp' }] },
      },
    ],
  ],
  [
    'bandwidth has the limits',
    [
      {
        type: 'bandwidth',
        ingressRate: 8_000_000,
        ingressBurst: 800_000,
        egressRate: 8_000_000,
        egressBurst: 800_000,
      },
    ],
  ],
  ['firewall lets the pod through', [{ type: 'firewall', backend: 'iptables' }]],
  ['sbr moves the routes to a table of their own', [{ type: 'sbr' }]],
  [
    'all of them',
    [
      { type: 'tuning', mac: '02:11:22:33:44:66', mtu: 1280 },
      { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 800_000 },
      { type: 'firewall', backend: 'iptables' },
      {
        type: 'portmap',
        runtimeConfig: { portMappings: [{ hostPort: 9292, containerPort: 80, protocol: 'udp' }] },
      },
      { type: 'sbr' },
    ],
  ],
];

for (const version of ['0.4.0', '1.0.0', '1.1.0']) {
  for (const [what, list] of chains) {
    test(`CHECK ${version} accepts what later plugins changed: ${what}`, async () => {
      const pod = await shared.node.pod();
      const chain = new Chain(shared.node, version, pod, list);
      try {
        await chain.add();
        await chain.check();
      } finally {
        await chain.delete();
      }
      assert.deepEqual(await shared.node.hostVeths(), []);
    });
  }
}
