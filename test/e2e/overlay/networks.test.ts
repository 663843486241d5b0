import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setTxChecksum } from '../../../src/kernel/ethtool.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { etcdPrefix, type Lab, type LabOptions, podSubnets, withLab } from '../../lab/lab.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';
import { assertConverges } from './state.ts';

const v4 = podSubnets;
const v6 = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };

interface Case {
  readonly what: string;
  readonly config: object;
  readonly underlay: NonNullable<LabOptions['underlay']>;
  readonly families: readonly Family[];
  readonly mtu: number;
  /** What a route to the other node looks like, by family. */
  readonly route: (family: Family) => RegExp;
  readonly key: RegExp;
}

const tunnel = (family: Family): RegExp =>
  family === ipv4 ? /dev flannel\.\d .*onlink/ : /dev flannel-v6\.\d .*onlink/;
const plain = (): RegExp => /via \S+ dev eth0 /;

const cases: Case[] = [
  {
    what: 'dual stack over VXLAN',
    config: { ...v4, ...v6, Backend: { Type: 'vxlan' } },
    underlay: 'dual',
    families: [ipv4, ipv6],
    mtu: 1430,
    route: tunnel,
    key: /subnets\/10\.244\.\d+\.0-24&fd00:244:0:\w+::-64$/,
  },
  {
    what: 'IPv6 only over VXLAN, another VNI and port',
    config: { EnableIPv4: false, ...v6, Backend: { Type: 'vxlan', VNI: 7, Port: 4789 } },
    underlay: 'ipv6',
    families: [ipv6],
    mtu: 1430,
    route: tunnel,
    key: /subnets\/0\.0\.0\.0-0&fd00:244:0:\w+::-64$/,
  },
  {
    what: 'host-gw, dual stack',
    config: { ...v4, ...v6, Backend: { Type: 'host-gw' } },
    underlay: 'dual',
    families: [ipv4, ipv6],
    mtu: 1500,
    route: plain,
    key: /subnets\/10\.244\.\d+\.0-24&/,
  },
  {
    what: 'VXLAN with DirectRouting',
    config: { ...v4, Backend: { Type: 'vxlan', DirectRouting: true } },
    underlay: 'ipv4',
    families: [ipv4],
    mtu: 1450,
    route: plain,
    key: /subnets\/10\.244\.\d+\.0-24$/,
  },
  {
    what: 'VXLAN with learning and group policy, nftables',
    config: { ...v4, EnableNFTables: true, Backend: { Type: 'vxlan', Learning: true, GBP: true, MTU: 1400 } },
    underlay: 'ipv4',
    families: [ipv4],
    mtu: 1350,
    route: tunnel,
    key: /subnets\/10\.244\.\d+\.0-24$/,
  },
];

async function exchange(lab: Lab, from: Pod, to: Pod, family: Family): Promise<void> {
  await to.serve();
  const address = family === ipv4 ? to.ipv4 : to.ipv6;
  const answer = await lab.waitFor(`${family.kubeName} traffic between pods`, () =>
    from.probe.ask({ protocol: 'tcp', address, port: servicePort, timeoutMs: 500 }),
  );
  assert.equal(answer.server, to.name);
  assert.equal(answer.client, family === ipv4 ? from.ipv4 : from.ipv6);
}

describe('networks', () => {
  for (const { what, config, underlay, families, mtu, route, key } of cases) {
    it(`${what}: pods reach each other and the outside`, async () => {
      await withLab({ nodes: 2, underlay, networkConfig: config }, async (lab) => {
        await Promise.all(lab.nodes.map((node) => node.startAgent()));
        const [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
        for (const entry of await lab.etcd.keys(`${etcdPrefix}/subnets/`)) assert.match(entry.key, key);
        assert.match(readFileSync(lab.nodes[0]!.subnetFile, 'utf8'), new RegExp(`^FLANNEL_MTU=${mtu}$`, 'm'));
        await lab.client.serve();
        for (const family of families) {
          await exchange(lab, a, b, family);
          await exchange(lab, b, a, family);
          const flag = family === ipv4 ? '-4' : '-6';
          const routes = await lab.nodes[0]!.exec('ip', ['-N', flag, 'route', 'show', 'proto', '80']);
          assert.equal(routes.trim().split('\n').length, 1);
          assert.match(`${routes.trim()} proto 80`, route(family));
          const target = {
            protocol: 'tcp',
            address: family === ipv4 ? lab.client.ipv4 : lab.client.ipv6,
            port: servicePort,
          } as const;
          const seen = await lab.waitFor('masqueraded traffic to the outside', () =>
            a.probe.ask({ ...target, timeoutMs: 500 }),
          );
          assert.equal(seen.client, family === ipv4 ? a.node.ipv4 : a.node.ipv6);
        }
      });
    });
  }

  it('alloc leases a subnet and leaves the routes to somebody else', async () => {
    const networkConfig = { ...v4, Backend: { Type: 'alloc' } };
    await withLab({ nodes: 2, underlay: 'ipv4', networkConfig }, async (lab) => {
      await Promise.all(lab.nodes.map((node) => node.startAgent()));
      const keys = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
      assert.equal(keys.length, 2);
      for (const { value } of keys)
        assert.match(value, /^\{"PublicIP":"192\.0\.2\.\d+","PublicIPv6":null,"BackendType":"alloc"\}$/);
      assert.equal(await lab.nodes[0]!.exec('ip', ['route', 'show', 'proto', '80']), '');
      assert.match(readFileSync(lab.nodes[0]!.subnetFile, 'utf8'), /^FLANNEL_MTU=1500$/m);
    });
  });

  it("--ip-blackhole-route: what is for the node's subnet is discarded, behind the bridge's route, until it is off again", async () => {
    const networkConfig = { ...v4, ...v6, Backend: { Type: 'vxlan' } };
    await withLab({ nodes: 2, networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      const blackholes = async (): Promise<string[]> => {
        const lists = await Promise.all(
          ['-4', '-6'].map((flag) => node.exec('ip', [flag, 'route', 'show', 'type', 'blackhole'])),
        );
        return lists.flatMap((text) => text.match(/^blackhole \S+/gm) ?? []).map((line) => line.slice(10));
      };
      await Promise.all(lab.nodes.map((each) => each.startAgent(['--ip-blackhole-route'])));
      const leases = await lab.etcd.keys(`${etcdPrefix}/subnets/`);
      const key = leases
        .find(({ value }) => value.includes(`"${node.ipv4}"`))
        ?.key.split('/')
        .at(-1);
      const own = key?.split('&').map((subnet) => subnet.replace('-', '/'));
      await lab.waitFor('the routes', async () => (await blackholes()).join() === own?.join());
      const [a, b] = (await Promise.all(lab.nodes.map((each) => each.addPod('a')))) as [Pod, Pod];
      for (const family of [ipv4, ipv6]) await exchange(lab, a, b, family);
      for (const family of [ipv4, ipv6]) await exchange(lab, b, a, family);
      await node.agent!.stop();
      await node.startAgent();
      await lab.waitFor('them to go', async () => (await blackholes()).length === 0);
    });
  });

  it('transmit checksum offload: off where the user says so, also for a device that was made anew', async () => {
    await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
      const node = lab.nodes[0]!;
      const turn = (on: boolean): boolean =>
        inNetns(node.namespace.path, () => setTxChecksum('flannel.1', on));
      await node.startAgent();
      assert.equal(turn(true), false, 'by default it is left as the kernel has it: on');
      await node.agent!.stop();
      await node.startAgent(['--tx-checksum-offload=off', '--log-level=debug']);
      assert.equal(turn(false), false, 'it is off already');
      await lab.waitFor('the agent to watch', () => node.agent!.log().includes('watches the kernel'));
      await node.namespace.ip('link delete flannel.1');
      await lab.waitFor('the new device', () => {
        const said = node.agent!.log().match(/set the transmit checksum offload .*on=false/g);
        return (said?.length ?? 0) >= 2;
      });
      assert.equal(turn(false), false);
      await assertConverges(lab, node);
    });
  });

  it('host-gw with a public IP that is no address of the node: said with what to do, until it is one', async () => {
    const networkConfig = { ...v4, Backend: { Type: 'host-gw' } };
    await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent([...healthFlags, '--public-ip=192.0.2.200']);
      const { status, text } = await readyz(node);
      assert.equal(status, 200);
      assert.match(
        text,
        /\[!\] public IP: 192\.0\.2\.200 is no address of this node, and .*host-gw.*set --public-ip .* to an address of eth0, 192\.0\.2\.\d+, or use the backend vxlan/,
      );
      await node.namespace.ip('address add 192.0.2.200/24 dev eth0');
      await lab.waitFor('nothing to be said', async () => !(await readyz(node)).text.includes('public IP:'));
    });
  });

  it('a route, a neighbour and a forwarding entry over IPv6 are put right', async () => {
    const networkConfig = { ...v4, ...v6, Backend: { Type: 'vxlan' } };
    await withLab({ nodes: 1, networkConfig }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--log-level=debug']);
      const mac = '02:00:00:00:00:40';
      await lab.etcd.put(
        `${etcdPrefix}/subnets/10.244.40.0-24&fd00:244:0:40::-64`,
        `{"PublicIP":"192.0.2.40","PublicIPv6":"2001:db8:0:1::40","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"},"BackendV6Data":{"VNI":1,"VtepMAC":"${mac}"}}`,
      );
      for (const family of [ipv4, ipv6]) await assertConverges(lab, node, { family });
      await lab.waitFor('the agent to watch', () => node.agent!.log().includes('watches the kernel'));
      await node.namespace
        .ip(
          '-6 route delete fd00:244:0:40::/64',
          'neighbour delete fd00:244:0:40:: dev flannel-v6.1',
          '-6 route add fd00:244:0:77::/64 via fd00:244:0:77:: dev flannel-v6.1 onlink',
        )
        .catch(async () => {
          await node.exec('ip', ['-6', 'route', 'delete', 'fd00:244:0:40::/64']);
          await node.exec('ip', ['neighbour', 'delete', 'fd00:244:0:40::', 'dev', 'flannel-v6.1']);
          await node.exec('ip', [
            '-6',
            'route',
            'add',
            'fd00:244:0:77::/64',
            'via',
            'fd00:244:0:77::',
            'dev',
            'flannel-v6.1',
            'onlink',
          ]);
        });
      await node.exec('bridge', ['fdb', 'delete', mac, 'dev', 'flannel-v6.1', 'dst', '2001:db8:0:1::40']);
      for (const family of [ipv4, ipv6]) await assertConverges(lab, node, { family });
    });
  });
});
