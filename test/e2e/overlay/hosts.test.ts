import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { etcdPrefix, type Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';

/** Public IPs of all leases, by family and sorted. */
async function published(lab: Lab): Promise<string[]> {
  const keys = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
  return keys
    .flatMap(({ key, value }) => parseLease(key.split('/').at(-1)!, value).families)
    .map(({ publicIp }) => publicIp.text)
    .sort();
}

/** `ip -d link` of the node's VXLAN device: its number, what it is bound to, its local address. */
async function tunnel(node: LabNode, name = 'flannel.1'): Promise<string> {
  const text = await node.exec('ip', ['-d', '-o', 'link', 'show', name]);
  return `${/^\d+/.exec(text)?.[0]}${/ local \S+( dev \S+)?/.exec(text)?.[0]}`;
}

async function exchange(lab: Lab, from: Pod, to: Pod): Promise<void> {
  await to.serve();
  const { server } = await lab.waitFor('traffic between pods', () =>
    from.probe.ask({ protocol: 'tcp', address: to.ipv4, port: servicePort, timeoutMs: 500 }),
  );
  assert.equal(server, to.name);
}

/** A second way out that leads nowhere: only the kernel's answers matter. */
const secondUplink = [
  'link add eth1 type veth peer name eth1far',
  'link set eth1far up',
  'link set eth1 up',
  'address add 203.0.113.2/24 dev eth1',
];

const alone = { ...podSubnets, Backend: { Type: 'vxlan' } };

describe('the way to the outside is the one that the kernel would take', () => {
  const ways: [string, string[]][] = [
    ['split in two halves', ['route add 0.0.0.0/1 via 192.0.2.1', 'route add 128.0.0.0/1 via 192.0.2.1']],
    ['of one half only', ['route add 128.0.0.0/1 via 192.0.2.1']],
    ['in another table, by a rule', ['route add default via 192.0.2.1 table 77', 'rule add lookup 77']],
    ['through a nexthop object', ['nexthop add id 5 via 192.0.2.1 dev eth0', 'route add default nhid 5']],
    [
      'through a group of nexthop objects',
      [
        'nexthop add id 5 via 192.0.2.1 dev eth0',
        'nexthop add id 6 via 192.0.2.254 dev eth0',
        'nexthop add id 7 group 5/6',
        'route add default nhid 7',
      ],
    ],
    [
      'through several next hops',
      ['route add default nexthop via 192.0.2.1 dev eth0 nexthop via 192.0.2.254 dev eth0'],
    ],
  ];

  it(`also ${ways.map(([what]) => what).join(', ')}`, async () => {
    await withLab({ nodes: ways.length, underlay: 'ipv4', networkConfig: alone }, async (lab) => {
      await Promise.all(
        ways.map(async ([, commands], index) => {
          const node = lab.nodes[index]!;
          await node.namespace.ip('route delete default', ...commands);
          await node.startAgent();
          assert.match(
            await tunnel(node),
            new RegExp(` local ${node.ipv4.replaceAll('.', '\\.')} dev eth0$`),
          );
        }),
      );
      assert.deepEqual(await published(lab), lab.nodes.map(({ ipv4 }) => ipv4).sort());
    });
  });

  it('of two that serve equally well the one in use is kept, over restarts, whichever comes first', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig: alone }, async (lab) => {
      const node = lab.nodes[0]!;
      const hops = ['nexthop via 192.0.2.1 dev eth0', 'nexthop via 203.0.113.1 dev eth1'];
      await node.namespace.ip(...secondUplink, 'route delete default', `route add default ${hops.join(' ')}`);
      await node.startAgent();
      const first = { addresses: await published(lab), device: await tunnel(node) };
      // The hop that is taken now and for this address gets a hundredth of the traffic.
      const weights = / dev eth0$/.test(first.device) ? [1, 255] : [255, 1];
      const weighted = hops.map((hop, index) => `${hop} weight ${weights[index]}`);
      for (const order of [weighted, weighted.toReversed()]) {
        await node.agent!.stop();
        await node.namespace.ip('route delete default', `route add default ${order.join(' ')}`);
        await node.startAgent();
        assert.deepEqual({ addresses: await published(lab), device: await tunnel(node) }, first);
      }
    });
  });

  it('--iface-can-reach takes the source address that the route names', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig: alone }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.namespace.ip(
        'address add 192.0.2.77/24 dev eth0',
        `route add ${lab.client.ipv4} via 192.0.2.1 src 192.0.2.77`,
      );
      await node.startAgent([`--iface-can-reach=${lab.client.ipv4}`]);
      assert.deepEqual(await published(lab), ['192.0.2.77']);
      assert.match(await tunnel(node), / local 192\.0\.2\.77 dev eth0$/);
    });
  });
});

describe("addresses go by what the kernel says of them, and the one in use stays the node's", () => {
  const networkConfig = {
    ...alone,
    EnableIPv6: true,
    IPv6Network: 'fd00:244::/48',
  };

  it('tentative, duplicate, deprecated and temporary ones are not taken, and further ones change nothing', async () => {
    await withLab({ nodes: 2, networkConfig }, async (lab) => {
      const [node, other] = lab.nodes as [LabNode, LabNode];
      const flags = async (): Promise<string> =>
        node.exec('ip', ['-6', '-o', 'address', 'show', 'dev', 'eth0']);
      await other.namespace.ip('address add 2001:db8:0:1::d0/64 dev eth0 nodad');
      node.namespace.sysctl({ 'net/ipv6/conf/eth0/use_tempaddr': '2' });
      await node.namespace.ip(
        'address add 2001:db8:0:1::d0/64 dev eth0',
        'address add 2001:db8:0:1::d1/64 dev eth0 nodad preferred_lft 0',
        'address add 2001:db8:0:1::d2/64 dev eth0 nodad valid_lft 80000 preferred_lft 40000 mngtmpaddr',
      );
      await lab.waitFor(
        'the duplicate and a temporary address',
        async () =>
          /::d0\/64.* dadfailed/.test(await flags()) && / temporary (?!.*tentative)/.test(await flags()),
      );
      node.namespace.sysctl({ 'net/ipv6/conf/eth0/dad_transmits': '600' });
      await node.namespace.ip('address add 2001:db8:0:1::d3/64 dev eth0');
      await node.startAgent();
      const addresses = [node.ipv4, node.ipv6].sort();
      assert.deepEqual(await published(lab), addresses, await flags());
      const devices = [await tunnel(node), await tunnel(node, 'flannel-v6.1')];

      await node.namespace.ip(
        'address add 2001:db8:0:1::2/64 dev eth0 nodad',
        'address add 192.0.2.2/32 dev eth0',
        'address add 192.0.2.3/24 dev eth0',
      );
      await node.agent!.stop();
      await node.startAgent();
      assert.deepEqual(await published(lab), addresses);
      assert.deepEqual([await tunnel(node), await tunnel(node, 'flannel-v6.1')], devices);

      // Without the tunnel's memory the lease says which one it was.
      await node.agent!.stop();
      await node.namespace.ip('link delete flannel.1', 'link delete flannel-v6.1');
      await node.startAgent();
      assert.deepEqual(await published(lab), addresses);
    });
  });

  it('one that becomes deprecated while it is in use gives way to another, and back it does not change again', async () => {
    await withLab({ nodes: 1, networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--resync=3600', '--log-level=debug']);
      await lab.waitFor('the agent to watch', () => node.agent!.log().includes('watches the kernel'));
      await node.namespace.ip(
        'address add 2001:db8:0:1::e0/64 dev eth0 nodad',
        `address change ${node.ipv6}/64 dev eth0 preferred_lft 0`,
      );
      const now = [node.ipv4, '2001:db8:0:1::e0'].sort().join();
      await lab.waitFor('the other address', async () => (await published(lab)).join() === now);
      await node.namespace.ip(`address change ${node.ipv6}/64 dev eth0 preferred_lft forever`);
      await node.agent!.stop();
      await node.startAgent();
      assert.equal((await published(lab)).join(), now);
    });
  });
});

describe('an address on loopback: what leaves goes by the routes to the nodes', () => {
  /** Nodes are known by 10.99.0.N on loopback. */
  async function numbered(lab: Lab, route: (index: number, node: LabNode) => string[]): Promise<void> {
    for (const [index, node] of lab.nodes.entries()) {
      await lab.underlay.ip(`route add 10.99.0.${index + 1} via ${node.ipv4}`);
      await node.namespace.ip(`address add 10.99.0.${index + 1}/32 dev lo`, ...route(index, node));
    }
  }

  for (const flags of [[], ['--iface']]) {
    it(`VXLAN${flags.length > 0 ? ', the address given by --iface' : ''}`, async () => {
      await withLab({ nodes: 2, underlay: 'ipv4', networkConfig: alone }, async (lab) => {
        await numbered(lab, (index) => [`route change default via 192.0.2.1 src 10.99.0.${index + 1}`]);
        for (const node of lab.nodes) await node.setMtu(1400);
        await Promise.all(
          lab.nodes.map((node, index) =>
            node.startAgent(flags.map((flag) => `${flag}=10.99.0.${index + 1}`)),
          ),
        );
        assert.deepEqual(await published(lab), ['10.99.0.1', '10.99.0.2']);
        const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
        await exchange(lab, a, b);
        await exchange(lab, b, a);
        for (const node of lab.nodes)
          await lab.waitFor('the MTU', () =>
            /^FLANNEL_MTU=1350$/m.test(readFileSync(node.subnetFile, 'utf8')),
          );
        assert.match(await tunnel(lab.nodes[0]!), / local 10\.99\.0\.1$/);
      });
    });
  }

  for (const backend of [{ Type: 'host-gw' }, { Type: 'vxlan', DirectRouting: true }]) {
    it(`${backend.Type}: a network that a route puts on the link is directly reachable`, async () => {
      const networkConfig = { ...alone, Backend: backend };
      await withLab({ nodes: 2, underlay: 'ipv4', networkConfig }, async (lab) => {
        await numbered(lab, (index) => [
          `route add 10.99.0.0/24 dev eth0 scope link src 10.99.0.${index + 1}`,
        ]);
        await Promise.all(lab.nodes.map((node, index) => node.startAgent([`--iface=10.99.0.${index + 1}`])));
        const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
        await exchange(lab, a, b);
        await exchange(lab, b, a);
        const routes = await lab.nodes[0]!.exec('ip', ['-N', 'route', 'show', 'proto', '80']);
        assert.match(routes, /^10\.244\.\d+\.0\/24 via 10\.99\.0\.2 dev eth0 $/m);
      });
    });
  }

  it('DirectRouting: a node that sees us behind a router, and we it on the link, where rp_filter is strict', async () => {
    const networkConfig = { ...alone, Backend: { Type: 'vxlan', DirectRouting: true } };
    await withLab({ nodes: 2, underlay: 'ipv4', networkConfig }, async (lab) => {
      const [one, two] = lab.nodes as [LabNode, LabNode];
      one.namespace.sysctl({ 'net/ipv4/conf/all/rp_filter': '1', 'net/ipv4/conf/default/rp_filter': '1' });
      await two.namespace.ip(`route add ${one.ipv4} via 192.0.2.1`);
      await Promise.all(lab.nodes.map((node) => node.startAgent()));
      const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
      await exchange(lab, a, b);
      await exchange(lab, b, a);
      const routes = (node: LabNode): Promise<string> =>
        node.exec('ip', ['-N', 'route', 'show', 'proto', '80']);
      assert.match(await routes(one), / dev eth0 /);
      assert.match(await routes(two), / dev flannel\.1 /);
    });
  });

  it('host-gw: a node behind a router is not directly reachable, whatever network its address is in', async () => {
    const networkConfig = { ...alone, Backend: { Type: 'host-gw' } };
    await withLab({ nodes: 2, underlay: 'ipv4', networkConfig }, async (lab) => {
      const [one, two] = lab.nodes as [LabNode, LabNode];
      await one.namespace.ip(`route add ${two.ipv4} via 192.0.2.1`);
      await Promise.all(lab.nodes.map((node) => node.startAgent(['--resync=3600', '--log-level=debug'])));
      await lab.waitFor('the reason', () => one.agent!.log().includes('not directly reachable'));
      await lab.waitFor('the agent to watch', () => one.agent!.log().includes('watches the kernel'));
      await one.namespace.ip(`route delete ${two.ipv4}`);
      const routes = (): Promise<string> => one.exec('ip', ['-N', 'route', 'show', 'proto', '80']);
      await lab.waitFor('the route', async () => (await routes()).includes(`via ${two.ipv4} dev eth0`));
    });
  });
});
