// Nodes whose way to the others is not just an address on an Ethernet device.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { etcdPrefix, type Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';

interface Uplink {
  readonly what: string;
  /** Commands of `ip` on the node before the agent starts. */
  commands(node: LabNode): string[];
  /** Both ends of the node's link. */
  readonly linkMtu?: number;
  readonly sysctl?: Readonly<Record<string, string>>;
  /** What the VXLAN device is to be like, and its MTU. */
  tunnel?(node: LabNode): string;
  readonly mtu?: number;
}

const device = (name: string) => (node: LabNode) => `local ${node.ipv4} dev ${name}`;

const uplinks: readonly Uplink[] = [
  { what: 'an Ethernet device', commands: () => [] },
  {
    what: 'a bridge that has the address',
    commands: (node) => [
      'link add br-lan type bridge',
      'link set eth0 master br-lan',
      `address del ${node.ipv4}/24 dev eth0`,
      `address add ${node.ipv4}/24 dev br-lan`,
      'link set br-lan up',
      'route add default via 192.0.2.1',
    ],
    tunnel: device('br-lan'),
  },
  { what: 'jumbo frames', commands: () => [], linkMtu: 9000, mtu: 8950 },
  { what: 'the smallest MTU', commands: () => [], linkMtu: 1280, mtu: 1230 },
  {
    what: 'further addresses, before and behind the one of the network',
    commands: (node) => [
      `address del ${node.ipv4}/24 dev eth0`,
      'address add 10.1.1.7/24 dev eth0',
      `address add ${node.ipv4}/24 dev eth0`,
      'address add 192.0.2.201/24 dev eth0',
      'address add 203.0.113.7/24 dev eth0',
      'route add default via 192.0.2.1',
    ],
  },
  {
    what: 'an address of its own network, its router on the link',
    commands: (node) => [
      `address del ${node.ipv4}/24 dev eth0`,
      `address add ${node.ipv4}/32 dev eth0`,
      'route add default via 192.0.2.1 dev eth0 onlink',
    ],
  },
  {
    what: 'a point-to-point address',
    commands: (node) => [
      `address del ${node.ipv4}/24 dev eth0`,
      `address add ${node.ipv4} peer 192.0.2.1/32 dev eth0`,
      'route add default via 192.0.2.1',
    ],
  },
  {
    what: 'strict reverse path filters, and ARP for the own device alone',
    commands: () => [],
    sysctl: Object.fromEntries(
      ['all', 'default', 'eth0'].flatMap((name) => [
        [`net/ipv4/conf/${name}/rp_filter`, '1'],
        [`net/ipv4/conf/${name}/arp_ignore`, '1'],
        [`net/ipv4/conf/${name}/arp_announce`, '2'],
        [`net/ipv4/conf/${name}/arp_filter`, '1'],
        [`net/ipv4/conf/${name}/send_redirects`, '0'],
      ]),
    ),
  },
];

const hostPort = {
  capabilities: { portMappings: true },
  runtimeConfig: { portMappings: [{ hostPort: 9080, containerPort: servicePort, protocol: 'tcp' }] },
};

async function start(node: LabNode, { commands, linkMtu, sysctl = {} }: Uplink): Promise<Pod> {
  await node.namespace.ip(...commands(node));
  if (linkMtu !== undefined) await node.setMtu(linkMtu);
  node.namespace.sysctl(sysctl);
  await node.startAgent();
  const pod = await node.addPod('pod', hostPort);
  await pod.serve();
  return pod;
}

async function asks(lab: Lab, from: { readonly probe: Pod['probe'] }, address: string, port: number) {
  const { server } = await lab.waitFor(`an answer from ${address}:${port}`, () =>
    from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 1000 }),
  );
  return server;
}

it(`nodes reach each other over ${uplinks.map(({ what }) => what).join('; ')}`, async () => {
  const networkConfig = { ...podSubnets, Backend: { Type: 'vxlan' } };
  await withLab({ nodes: uplinks.length, underlay: 'ipv4', networkConfig }, async (lab) => {
    const pods = await Promise.all(uplinks.map((uplink, at) => start(lab.nodes[at]!, uplink)));
    const first = pods[0]!;
    for (const [at, { what, tunnel = device('eth0'), mtu = 1450 }] of uplinks.entries()) {
      const [node, pod] = [lab.nodes[at]!, pods[at]!];
      const shown = await node.exec('ip', ['-d', '-o', 'link', 'show', 'flannel.1']);
      assert.ok(shown.includes(tunnel(node)), `${what}: ${shown}`);
      assert.match(shown, new RegExp(` mtu ${mtu} `), what);
      assert.match(readFileSync(node.subnetFile, 'utf8'), new RegExp(`^FLANNEL_MTU=${mtu}$`, 'm'), what);
      assert.equal(await asks(lab, pod, first.ipv4, servicePort), first.name, `from ${what}`);
      assert.equal(await asks(lab, first, pod.ipv4, servicePort), pod.name, `to ${what}`);
      assert.equal(await asks(lab, lab.client, node.ipv4, 9080), pod.name, `host port of ${what}`);
      assert.equal(await asks(lab, pod, node.ipv4, 9080), pod.name, `host port of ${what}, from its pod`);
      assert.equal(
        await asks(lab, pod, lab.nodes[(at + 1) % uplinks.length]!.ipv4, 9080),
        pods[(at + 1) % uplinks.length]!.name,
      );
    }
  });
});

it('a device that gets another name is followed', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const [one, two] = lab.nodes as [LabNode, LabNode];
    const pods = await Promise.all([one, two].map((node) => start(node, uplinks[0]!)));
    await one.namespace.ip('link set eth0 down', 'link set eth0 name uplink0', 'link set uplink0 up');
    await one.namespace.ip('route add default via 192.0.2.1');
    assert.equal(await asks(lab, pods[0]!, pods[1]!.ipv4, servicePort), pods[1]!.name);
    assert.equal(await asks(lab, pods[1]!, pods[0]!.ipv4, servicePort), pods[0]!.name);
    await one.agent!.stop();
    await one.startAgent();
    assert.equal(await asks(lab, pods[1]!, pods[0]!.ipv4, servicePort), pods[0]!.name);
    assert.match(await one.exec('ip', ['-d', '-o', 'link', 'show', 'flannel.1']), / dev uplink0 /);
  });
});

it('a device that is removed, and with it the tunnel, and made anew is followed', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const [one, two] = lab.nodes as [LabNode, LabNode];
    const bridge = uplinks.find(({ what }) => what.startsWith('a bridge'))!;
    const pods = await Promise.all([start(one, bridge), start(two, uplinks[0]!)]);
    const both = async (): Promise<void> => {
      assert.equal(await asks(lab, pods[0]!, pods[1]!.ipv4, servicePort), pods[1]!.name);
      assert.equal(await asks(lab, pods[1]!, pods[0]!.ipv4, servicePort), pods[0]!.name);
    };
    await both();
    const leases = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
    // As networking that is restarted does it.
    await one.namespace.ip('link delete br-lan');
    await lab.waitFor('the agent to have no interface', () =>
      /no interface with IPv4/.test(one.agent!.log()),
    );
    const [, ...again] = bridge.commands(one);
    await one.namespace.ip(
      'link add br-lan type bridge',
      ...again.filter((command) => !command.startsWith('address del')),
    );
    await both();
    assert.deepEqual(await lab.etcd.keys(`${etcdPrefix}/subnets/`), leases);
    assert.match(await one.exec('ip', ['-d', '-o', 'link', 'show', 'flannel.1']), / dev br-lan /);
  });
});
