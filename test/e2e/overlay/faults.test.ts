import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, it } from 'node:test';
import { parseAddress } from '../../../src/model/address.ts';
import { nexthopId } from '../../../src/overlay/plan/entries.ts';
import { etcdPrefix, Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { assertConverges, flannelLease, saidSince } from './state.ts';

/** No timer helps: the kernel's events alone must do, except for the rules, of which it does not tell. */
const flags = ['--log-level=debug', '--iptables-resync=1', '--resync=3600'];

describe('faults end with traffic flowing and the kernel as desired', () => {
  let lab: Lab;
  let a: Pod;
  let b: Pod;
  let one: LabNode;
  let two: LabNode;

  before(async () => {
    lab = await Lab.start({ nodes: 2 });
    [one, two] = lab.nodes as [LabNode, LabNode];
    await Promise.all(lab.nodes.map((node) => node.startAgent(flags)));
    [a, b] = (await Promise.all(lab.nodes.map((node) => node.addPod('a')))) as [Pod, Pod];
    await Promise.all([a.serve(), b.serve()]);
    for (const host of [40, 41, 42, 43]) {
      const { key, value } = flannelLease(host, `02:00:00:00:00:${host}`);
      await lab.etcd.put(key, value);
    }
    await assertConverges(lab, one);
    await lab.waitFor('the agent to watch the kernel', () => saidSince(one, 0, /watches the kernel/));
  });
  after(() => lab.stop());

  afterEach(async () => {
    for (const node of [one, two]) await assertConverges(lab, node);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      await lab.waitFor(`traffic from ${from.name} on ${from.node.name}`, async () => {
        const answer = await from.probe.ask({
          protocol: 'tcp',
          address: to.ipv4,
          port: servicePort,
          timeoutMs: 500,
        });
        return answer.client === from.ipv4;
      });
    }
  });

  it('the VXLAN device is deleted', async () => {
    const from = one.agent!.log().length;
    await one.namespace.ip('link delete flannel.1');
    await lab.waitFor('the agent to name it', () => saidSince(one, from, /set up the VXLAN device/));
    await one.namespace.ip('link show flannel.1');
  });

  it('the VXLAN device is taken down, loses its address, its MTU and its MAC', async () => {
    const before = await one.exec('cat', ['/sys/class/net/flannel.1/address']);
    await one.namespace.ip(
      'link set flannel.1 address 02:aa:aa:aa:aa:aa',
      'link set flannel.1 mtu 1200',
      'address flush dev flannel.1',
      'link set flannel.1 down',
    );
    await lab.waitFor('the device to be as before', async () => {
      const text = await one.exec('ip', ['address', 'show', 'dev', 'flannel.1']);
      return (
        /UP/.test(text) &&
        /mtu 1450/.test(text) &&
        /inet 10\.244\.\d+\.0\/32/.test(text) &&
        text.includes(before.trim())
      );
    });
  });

  it('a route, a neighbour and a forwarding entry are deleted and foreign ones added', async () => {
    const from = one.agent!.log().length;
    await one.namespace.ip(
      'route delete 10.244.40.0/24',
      'neighbour delete 10.244.41.0 dev flannel.1',
      'route add 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink',
      'neighbour add 10.244.77.0 lladdr 02:00:00:00:00:77 dev flannel.1 nud permanent',
      'route replace 10.244.43.0/24 via 192.0.2.1',
    );
    await one.exec('bridge', ['fdb', 'delete', '02:00:00:00:00:42', 'dev', 'flannel.1', 'dst', '192.0.2.42']);
    await one.exec('bridge', ['fdb', 'add', '02:00:00:00:00:77', 'dev', 'flannel.1', 'dst', '192.0.2.77']);
    await one.exec('bridge', ['fdb', 'append', '02:00:00:00:00:40', 'dev', 'flannel.1', 'dst', '192.0.2.78']);
    await assertConverges(lab, one);
    await lab.waitFor('the agent to name them', () => saidSince(one, from, /repaired entries/));
  });

  it('a nexthop object is deleted, another one changed, and one with our mark added', async () => {
    const id = (third: number): number => nexthopId(parseAddress(`10.244.${third}.0`));
    await one.namespace.ip(
      `nexthop delete id ${id(42)}`,
      `nexthop replace id ${id(41)} via 10.244.99.0 dev flannel.1 onlink`,
      'nexthop add id 77 via 10.244.77.0 dev flannel.1 onlink protocol 80',
    );
    await assertConverges(lab, one);
  });

  it('routes by gateway, as an agent on an older kernel or a flanneld sets them, become routes by nexthop', async () => {
    await one.namespace.ip('route replace 10.244.41.0/24 via 10.244.41.0 dev flannel.1 onlink');
    await assertConverges(lab, one);
  });

  it('a neighbour alone is deleted', async () => {
    await one.namespace.ip('neighbour delete 10.244.41.0 dev flannel.1');
  });

  it('foreign routes outside the pod network are left alone', async () => {
    await one.namespace.ip('route add 203.0.113.0/24 via 192.0.2.1');
    const from = one.agent!.log().length;
    await one.namespace.ip('route delete 10.244.40.0/24');
    await lab.waitFor('a repair', () => saidSince(one, from, /repaired entries/));
    assert.match(await one.exec('ip', ['route', 'show', '203.0.113.0/24']), /via 192\.0\.2\.1/);
    await one.namespace.ip('route delete 203.0.113.0/24');
  });

  it('the underlay link goes down and comes up', async () => {
    await one.namespace.ip('link set eth0 down');
    await one.namespace.ip('link set eth0 up');
    // What an administrator's network configuration does, not ours:
    await one.namespace.ip('route add default via 192.0.2.1 dev eth0');
  });

  it('the underlay loses and regains its carrier', async () => {
    await one.cutLink();
    await one.restoreLink();
  });

  it('the MTU of the underlay changes', async () => {
    await one.setMtu(1400);
    await lab.waitFor('the MTU of the device', async () =>
      /mtu 1350/.test(await one.exec('ip', ['link', 'show', 'flannel.1'])),
    );
    await lab.waitFor('the MTU in the subnet file', () =>
      readFileSync(one.subnetFile, 'utf8').includes('FLANNEL_MTU=1350'),
    );
    await one.setMtu(1500);
    await lab.waitFor('the old MTU', async () =>
      /mtu 1450/.test(await one.exec('ip', ['link', 'show', 'flannel.1'])),
    );
  });

  it('iptables -F -t nat and nft flush ruleset', async () => {
    const rules = async (): Promise<string> =>
      (await one.exec('iptables', ['-t', 'nat', '-S'])) + (await one.exec('iptables', ['-S']));
    await lab.waitFor('the rules', async () => /-j FLANNEL-FWD/.test(await rules()));
    const flannels = (text: string): string[] => text.split('\n').filter((line) => line.includes('FLANNEL'));
    const before = flannels(await rules());
    await one.exec('iptables', ['-t', 'nat', '-F']);
    await lab.waitFor('the rules again', async () => flannels(await rules()).join() === before.join());
    await one.exec('nft', ['flush', 'ruleset']);
    await lab.waitFor('the rules again', async () => flannels(await rules()).join() === before.join());
    // A duplicate jump, and our jump behind a rule that refuses everything.
    await one.exec('iptables', ['-t', 'nat', '-A', 'POSTROUTING', '-j', 'FLANNEL-POSTRTG']);
    await one.exec('iptables', ['-I', 'FORWARD', '-j', 'REJECT']);
    await lab.waitFor('one jump, and before the refusal', async () => {
      const text = await rules();
      const forward = text.split('\n').filter((line) => line.startsWith('-A FORWARD'));
      return (
        (text.match(/-A POSTROUTING .*FLANNEL-POSTRTG/g)?.length ?? 0) === 1 &&
        forward[0]?.includes('FLANNEL-FWD')
      );
    });
    await one.exec('iptables', ['-D', 'FORWARD', '-j', 'REJECT']);
  });

  it('rules that nobody has touched are not listed again', async () => {
    const looks = (): number => one.agent!.log().split('looked at the rules').length;
    // What the test before did to the rules may still have to be looked at.
    const start = one.agent!.log().length;
    await lab.waitFor('the rules to be known', () => saidSince(one, start, /nobody has written rules/));
    const [from, before] = [one.agent!.log().length, looks()];
    await lab.waitFor('three checks', () => saidSince(one, from, /(nobody has written rules[\s\S]*){3}/));
    assert.equal(looks(), before);
    await one.exec('iptables', ['-t', 'nat', '-N', 'SOMEBODYS']);
    await lab.waitFor('a look', () => looks() > before);
    await one.exec('iptables', ['-t', 'nat', '-X', 'SOMEBODYS']);
  });

  it('forwarding is turned off', async () => {
    await one.exec('tee', ['/proc/sys/net/ipv4/ip_forward'], { input: '0' });
    await lab.waitFor(
      'forwarding',
      async () => (await one.exec('cat', ['/proc/sys/net/ipv4/ip_forward'])).trim() === '1',
    );
  });

  it("bridged packets are kept from iptables' rules", async () => {
    const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    await one.exec('tee', [setting], { input: '0' });
    await lab.waitFor('the setting', async () => (await one.exec('cat', [setting])).trim() === '1');
  });

  it('another program insists on a MAC address of its own: it is published', async () => {
    const mac = '02:bb:bb:bb:bb:bb';
    await lab.waitFor('the MAC in the lease', async () => {
      await one.namespace.ip(`link set flannel.1 address ${mac}`);
      return (await lab.etcd.keys(`${etcdPrefix}/subnets/`)).some(({ value }) => value.includes(mac));
    });
    assert.match(await one.exec('cat', ['/sys/class/net/flannel.1/address']), new RegExp(mac));
    assert.match(one.agent!.log(), /another program insists on the device's MAC address/);
    await assertConverges(lab, two);
  });

  it('another program keeps deleting a route: it is named, and repaired less and less often', async () => {
    // One that nobody has meddled with: it is named once, when it has been repaired once too often.
    const { key, value } = flannelLease(46, '02:00:00:00:00:46');
    await lab.etcd.put(key, value);
    await assertConverges(lab, one);
    const from = one.agent!.log().length;
    await lab.waitFor('the agent to name it', async () => {
      await one.namespace.run('ip', ['route', 'delete', '10.244.46.0/24']);
      return saidSince(one, from, /something keeps changing entries .*r 10\.244\.46\.0\/24/);
    });
    await lab.etcd.delete(key);
  });

  it('etcd restarts, is compacted meanwhile, and leases have come, gone and changed', async () => {
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 20 });
    await lab.etcd.stop();
    const from = one.agent!.log().length;
    await lab.waitFor('the agent to notice', () => saidSince(one, from, /cannot follow the leases/));
    await one.blockEtcd();
    await lab.etcd.start();
    await lab.etcd.delete(`${etcdPrefix}/subnets/10.244.40.0-24`);
    const { key, value } = flannelLease(45, '02:00:00:00:00:45');
    await lab.etcd.put(key, value);
    const moved = flannelLease(41, '02:00:00:00:00:41', '192.0.2.141');
    await lab.etcd.put(moved.key, moved.value);
    await lab.etcd.compact();
    await one.unblockEtcd();
    await assertConverges(lab, one);
    const { sent, received } = await stream.end();
    assert.equal(received, sent);
    assert.ok(saidSince(one, from, /has not the history that was known: it has been compacted/));
  });

  it('while the agent is stopped, three nodes leave and one changes its public IP', async () => {
    await one.agent!.stop();
    for (const host of [42, 43, 45]) await lab.etcd.delete(`${etcdPrefix}/subnets/10.244.${host}.0-24`);
    const moved = flannelLease(41, '02:00:00:00:00:41', '192.0.2.142');
    await lab.etcd.put(moved.key, moved.value);
    await one.startAgent(flags);
  });

  it('the address of the underlay changes', async () => {
    await one.namespace.ip(
      'address delete 192.0.2.11/24 dev eth0',
      'address add 192.0.2.111/24 dev eth0',
      'route replace default via 192.0.2.1 dev eth0',
    );
    await lab.waitFor('the lease to carry the new address', async () =>
      (await lab.etcd.keys(`${etcdPrefix}/subnets/`)).some(({ value }) => value.includes('"192.0.2.111"')),
    );
    await assertConverges(lab, two);
    await assertConverges(lab, one, { publicIp: '192.0.2.111' });
    await one.namespace.ip(
      'address delete 192.0.2.111/24 dev eth0',
      'address add 192.0.2.11/24 dev eth0',
      'route replace default via 192.0.2.1 dev eth0',
    );
  });
});
