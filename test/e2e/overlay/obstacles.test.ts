// What a host may have in the way of the overlay: settings for what is made new, foreign devices, routes and rules.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { udpSink } from '../../lab/udp.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';
import { assertConverges, flannelLease, saidSince } from './state.ts';

type Lease = ReturnType<typeof flannelLease>;

const networkConfig = {
  ...podSubnets,
  EnableIPv6: true,
  IPv6Network: 'fd00:244::/48',
  Backend: { Type: 'vxlan' },
};

async function exchange(lab: Lab, from: Pod, to: Pod, family: 'ipv4' | 'ipv6'): Promise<void> {
  const target = { protocol: 'tcp', address: to[family], port: servicePort, timeoutMs: 500 } as const;
  const { client } = await lab.waitFor(`${family} traffic between pods`, () => from.probe.ask(target));
  assert.equal(client, from[family]);
}

const shown = (node: LabNode, device: string): Promise<string> =>
  node.exec('ip', ['-d', '-o', 'link', 'show', device]);

/** Waits until /readyz has, or has not, the line. */
async function told(lab: Lab, node: LabNode, line: RegExp, present = true): Promise<void> {
  let text = '';
  await lab.waitFor(
    `${line} ${present ? 'to be said' : 'not to be said any more'}`,
    async () => {
      ({ text } = await readyz(node));
      return line.test(text) === present;
    },
    { explain: () => text },
  );
}

describe('a node whose settings for new devices are not for pods', () => {
  it('forwards, and has IPv6, all the same; what somebody turned off of a device is turned on or named', async () => {
    await withLab({ nodes: 2, networkConfig }, async (lab) => {
      const settings: Record<string, string> = {
        'net/ipv4/ip_forward': '1',
        'net/ipv6/conf/all/forwarding': '1',
        'net/ipv4/conf/default/forwarding': '0',
        'net/ipv6/conf/default/forwarding': '0',
        'net/ipv6/conf/default/disable_ipv6': '1',
        'net/ipv4/conf/default/rp_filter': '1',
        'net/ipv4/conf/default/arp_ignore': '2',
        'net/ipv4/conf/default/proxy_arp': '1',
      };
      for (const { namespace } of lab.nodes)
        for (const [name, value] of Object.entries(settings)) namespace.sysctl({ [name]: value });
      await Promise.all(lab.nodes.map((node) => node.startAgent(healthFlags)));
      const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
      await Promise.all([a.serve(), b.serve()]);
      for (const family of ['ipv4', 'ipv6'] as const) await exchange(lab, a, b, family);
      const node = lab.nodes[0]!;
      assert.doesNotMatch((await readyz(node)).text, /sysctl/);

      const off = (...devices: string[]): void => {
        for (const device of devices) node.namespace.sysctl({ [`net/ipv4/conf/${device}/forwarding`]: '0' });
      };
      off('flannel.1', 'cni0', 'eth0');
      await exchange(lab, a, b, 'ipv4');
      await exchange(lab, b, a, 'ipv4');
      await told(lab, node, /\[!\] sysctl: net\/ipv4\/conf\/eth0\/forwarding is 0, .*set it to 1/);
      node.namespace.sysctl({ 'net/ipv4/conf/eth0/forwarding': '1' });
      off('flannel.1');
      await told(lab, node, /eth0\/forwarding/, false);
    });
  });
});

describe('what stands in the way of the routes to the other nodes', () => {
  let lab: Lab;
  let one: LabNode;
  let pods: [Pod, Pod];
  let subnets: { readonly ipv4: string; readonly ipv6: string };

  before(async () => {
    lab = await Lab.start({ nodes: 2, networkConfig });
    one = lab.nodes[0]!;
    // No timer helps: the kernel's events alone must do.
    await Promise.all(
      lab.nodes.map((node) => node.startAgent([...healthFlags, '--resync=3600', '--log-level=debug'])),
    );
    pods = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
    await pods[1].serve();
    // An agent that is ready has not yet heard of one that became so a moment ago.
    const first = (flag: string): Promise<string> =>
      lab.waitFor('a route to the other node', async () => {
        const [subnet] = (await one.exec('ip', [flag, 'route', 'show', 'proto', '80'])).split(' ');
        return subnet !== '' && subnet;
      });
    subnets = { ipv4: await first('-4'), ipv6: await first('-6') };
    await lab.waitFor('the agent to watch the kernel', () => saidSince(one, 0, /watches the kernel/));
  });
  after(() => lab.stop());
  afterEach(async () => {
    await told(lab, one, /\[!\] routes:/, false);
    for (const family of ['ipv4', 'ipv6'] as const) await exchange(lab, pods[0], pods[1], family);
  });

  it('a rule that sends everything to another table: said, with the device and what to do, until it is gone', async () => {
    await one.namespace.ip('route add default via 192.0.2.1 table 77', 'rule add lookup 77');
    await told(
      lab,
      one,
      /\[!\] routes: packets to pods of 1 of 2 nodes .*those for 10\.244\.\d+\.0\/24 leave by eth0 via 192\.0\.2\.1 instead of by flannel\.1; .*'ip rule'/,
    );
    await one.namespace.ip('rule delete lookup 77');
  });

  it("a rule for the pods' own packets alone", async () => {
    await one.namespace.ip('rule add from 10.244.0.0/16 lookup 77');
    await told(lab, one, /\[!\] routes: .* leave by eth0 via 192\.0\.2\.1/);
    await one.namespace.ip('rule delete from 10.244.0.0/16 lookup 77');
    await told(lab, one, /\[!\] routes:/, false);
    for (const [flag, network] of [
      ['-4', '10.244.0.0/16'],
      ['-6', 'fd00:244::/48'],
    ] as const) {
      const rule = ['from', network, 'to', network, 'prohibit'];
      await one.exec('ip', [flag, 'rule', 'add', ...rule]);
      await told(lab, one, /\[!\] routes: .* are discarded instead of by flannel/);
      await one.exec('ip', [flag, 'rule', 'delete', ...rule]);
      await told(lab, one, /\[!\] routes:/, false);
    }
  });

  it('one as wg-quick sets them, behind the routes of the main table, is not in the way', async () => {
    await one.namespace.ip(
      'rule add not fwmark 51820 lookup 77',
      'rule add lookup main suppress_prefixlength 0',
    );
    await exchange(lab, pods[0], pods[1], 'ipv4');
    await told(lab, one, /\[!\] routes:/, false);
    await one.namespace.ip(
      'rule delete not fwmark 51820 lookup 77',
      'rule delete lookup main suppress_prefixlength 0',
    );
  });

  for (const kind of ['blackhole', 'unreachable', 'prohibit'])
    it(`${kind} in the place of a route of ours is replaced at once`, async () => {
      await one.namespace.ip(`route replace ${kind} ${subnets.ipv4}`);
      await assertConverges(lab, one);
      await one.exec('ip', ['-6', 'route', 'replace', kind, subnets.ipv6]);
      await assertConverges(lab, one, { family: ipv6 });
    });

  it('a narrower route, and one with a smaller metric', async () => {
    const half = subnets.ipv4.replace(/24$/, '25');
    await one.namespace.ip(`route add ${half} via 192.0.2.1`);
    await told(lab, one, /\[!\] routes: .* leave by eth0 via 192\.0\.2\.1/);
    await one.namespace.ip(`route delete ${half}`);
    await told(lab, one, /\[!\] routes:/, false);
    await one.exec('ip', ['-6', 'route', 'add', 'blackhole', subnets.ipv6, 'metric', '10']);
    await told(lab, one, /\[!\] routes: .*fd00:244:\S+ are discarded instead of by flannel-v6\.1/);
    await one.exec('ip', ['-6', 'route', 'delete', 'blackhole', subnets.ipv6, 'metric', '10']);
  });

  it('the underlay carries too little for IPv6 for a while: said with how much it needs, until it does', async () => {
    await one.setMtu(1300);
    try {
      await told(
        lab,
        one,
        /\[!\] underlay: eth0 has an MTU of 1300: at least 1350 is needed for IPv4 and IPv6/,
      );
      const [first, second] = [77, 78].map((number) => flannelLease(number, `02:00:00:00:01:${number}`)) as [
        Lease,
        Lease,
      ];
      // What stands goes on, IPv6 too; and where it does not, IPv4 does.
      await lab.etcd.put(first.key, first.value);
      for (const family of [ipv4, ipv6]) await assertConverges(lab, one, { family });
      await exchange(lab, pods[0], pods[1], 'ipv6');
      const from = one.agent!.log().length;
      await one.namespace.ip('link delete flannel-v6.1');
      await told(lab, one, /\[-\] overlay: .*fd00:244/);
      await lab.etcd.put(second.key, second.value);
      await assertConverges(lab, one);
      assert.ok(
        !saidSince(one, from, /repaired entries/),
        'nobody has changed what leads through the device',
      );
      for (const { key } of [first, second]) await lab.etcd.delete(key);
    } finally {
      await one.setMtu(1500);
    }
    await told(lab, one, /\[!\] underlay:|\[-\]/, false);
    for (const family of [ipv4, ipv6]) await assertConverges(lab, one, { family });
  });

  it('the VXLAN device is made a port of a bridge: it is taken out', async () => {
    await one.namespace.ip('link add br9 type bridge', 'link set br9 up', 'link set flannel.1 master br9');
    await lab.waitFor('the device alone', async () => !/ master /.test(await shown(one, 'flannel.1')));
  });

  it('the node gets another address, and another device for it: the VXLAN devices stay, and so does the traffic', async () => {
    const index = async (): Promise<string> => (await shown(one, 'flannel.1')).split(':')[0]!;
    const before = await index();
    await one.namespace.ip(
      'address add 192.0.2.111/24 dev eth0',
      `address delete ${one.ipv4}/24 dev eth0`,
      'address replace 192.0.2.111/24 dev eth0',
      'route replace default via 192.0.2.1 dev eth0',
    );
    await lab.waitFor('the address', async () =>
      / local 192\.0\.2\.111 dev eth0/.test(await shown(one, 'flannel.1')),
    );
    await one.namespace.ip(
      'link add br-lan type bridge',
      'link set br-lan up',
      'link set eth0 master br-lan',
      'address delete 192.0.2.111/24 dev eth0',
      'address add 192.0.2.111/24 dev br-lan',
      `address delete ${one.ipv6}/64 dev eth0`,
      `address add ${one.ipv6}/64 dev br-lan nodad`,
      'route add default via 192.0.2.1',
    );
    await lab.waitFor('the device', async () =>
      / local 192\.0\.2\.111 dev br-lan/.test(await shown(one, 'flannel.1')),
    );
    assert.equal(await index(), before);
  });
});

it('another has our VNI and port, or the port: named, and the overlay stands when that is gone', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const [one, two] = lab.nodes as [LabNode, LabNode];
    const program = await udpSink(one.namespace, '0.0.0.0', 8472);
    await one.namespace.ip(`link add overlay9 type vxlan id 1 dstport 8472 dev eth0 local ${one.ipv4}`);
    // As Cilium makes its own, with the same port.
    await two.namespace.ip(
      'link add cilium_vxlan type vxlan external dstport 8472',
      'link set cilium_vxlan up',
    );
    await Promise.all(lab.nodes.map((node) => node.startAgent(healthFlags, false)));
    const overlay9 =
      /\[-\] overlay: cannot create flannel\.1: overlay9 has VNI 1 on UDP port 8472; remove that device/;
    await told(lab, one, overlay9);
    await told(
      lab,
      two,
      /\[-\] overlay: cannot set flannel\.1 up: cilium_vxlan, a VXLAN device that does not share it, has UDP port 8472: remove that device, or change Backend\.Port/,
    );
    await one.namespace.ip('link delete overlay9');
    await told(lab, one, /\[-\] overlay: cannot set flannel\.1 up: a program listens on UDP port 8472 /);
    await program.close();
    await two.namespace.ip('link delete cilium_vxlan');
    for (const node of lab.nodes) await node.agentReady();
  });
});

it('a VPN takes what leaves for the outside, and the other nodes are on another device: said, with what to do', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const [node, other] = lab.nodes as [LabNode, LabNode];
    await other.startAgent();
    await node.namespace.ip(
      'link add wg0 type veth peer name wg0far',
      'link set wg0 up',
      'link set wg0far up',
      'address add 10.9.0.2/32 dev wg0',
      'route add default dev wg0 table 51820',
      'rule add not fwmark 51820 lookup 51820',
      'rule add lookup main suppress_prefixlength 0',
    );
    await node.startAgent(healthFlags);
    await told(
      lab,
      node,
      /\[!\] underlay: other nodes know this one by 10\.9\.0\.2, of wg0, and packets to them leave by eth0 under 192\.0\.2\.11: .*set --iface=eth0/,
    );
    await node.agent!.stop();
    await node.startAgent([...healthFlags, '--iface=eth0']);
    await told(lab, node, /\[!\] underlay/, false);
  });
});

it('well-known addresses of the outside that the host keeps packets from do not hide the default route', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const [one, two] = lab.nodes as [LabNode, LabNode];
    await one.namespace.ip('route add blackhole 8.0.0.0/8', 'route add unreachable 198.41.0.0/16');
    await two.namespace.ip('rule add to 8.8.8.8 prohibit', 'rule add to 198.41.0.4 blackhole');
    await Promise.all(lab.nodes.map((node) => node.startAgent()));
    for (const node of lab.nodes)
      assert.match(
        await shown(node, 'flannel.1'),
        new RegExp(` local ${node.ipv4.replaceAll('.', '\\.')} dev eth0 `),
      );
  });
});
