// Twill as the first of a chain, with the real plugins that people put behind it, called as libcni calls them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, cniExecutable, dualStack, sharedCniNode } from '../../lab/cni-node.ts';
import type { Namespace } from '../../lab/namespace.ts';

/** Where Debian's containernetworking-plugins has them. */
const plugins = '/usr/lib/cni';
const dual = sharedCniNode(dualStack);
const ipv4Only = sharedCniNode();

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
  private readonly seesIp6tables: boolean;
  private result: object | undefined;

  /** @param other the first plugin instead of Twill, and whether portmap has ip6tables */
  constructor(
    node: CniNode,
    version: string,
    pod: Namespace,
    list: readonly Plugin[],
    other: { readonly first?: Plugin; readonly seesIp6tables?: boolean } = {},
  ) {
    this.node = node;
    this.version = version;
    this.list = [other.first ?? { type: 'twill', socket: node.socketPath }, ...list];
    this.pod = pod;
    this.seesIp6tables = other.seesIp6tables ?? false;
  }

  private withoutIp6tables(): string {
    const iptables = join(this.node.directory, 'iptables');
    if (!existsSync(iptables)) symlinkSync('/usr/sbin/iptables', iptables);
    return this.node.directory;
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
    // CHECK of portmap 1.1.1 looks for IPv4's rules in ip6tables, too, where it finds that.
    const isUnfit = plugin.type === 'portmap' && !this.seesIp6tables;
    const path = `PATH=${isUnfit ? this.withoutIp6tables() : process.env.PATH}`;
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

async function assertPasses(node: CniNode, version: string, list: readonly Plugin[]): Promise<void> {
  const pod = await node.pod();
  const chain = new Chain(node, version, pod, list);
  try {
    await chain.add();
    await chain.check();
  } finally {
    await chain.delete();
  }
  assert.deepEqual(await node.hostVeths(), []);
}

for (const version of ['0.4.0', '1.0.0', '1.1.0'])
  for (const [what, list] of chains)
    test(`CHECK ${version} accepts what later plugins changed: ${what}`, () =>
      assertPasses(ipv4Only.node, version, list));

for (const [what, list] of chains.filter(([, plugins]) => plugins.every(({ type }) => type !== 'portmap')))
  test(`CHECK accepts in a dual-stack network what later plugins changed: ${what}`, () =>
    assertPasses(dual.node, '1.1.0', list));

test('CHECK of the portmap plugin says behind Twill what it says behind the bridge plugin', async () => {
  const { node } = ipv4Only;
  const mappings = { portMappings: [{ hostPort: 9393, containerPort: 80, protocol: 'tcp' }] };
  const bridge = {
    type: 'bridge',
    bridge: 'other0',
    isGateway: true,
    ipam: { type: 'host-local', dataDir: join(node.directory, 'other'), subnet: '10.99.0.0/24' },
  };
  const said: string[] = [];
  for (const first of [{ type: 'twill', socket: node.socketPath }, bridge]) {
    const portmap = { type: 'portmap', runtimeConfig: mappings };
    const chain = new Chain(node, '1.0.0', await node.pod(), [portmap], { first, seesIp6tables: true });
    try {
      await chain.add();
      const outcome = await chain.check().catch((error: Error) => error.message);
      said.push(/could not check ipv6 dnat/.exec(String(outcome))?.[0] ?? String(outcome));
    } finally {
      await chain.delete();
    }
  }
  assert.equal(said[0], said[1]);
});
