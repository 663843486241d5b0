import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { servicePort } from '../../lab/place.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import { readyz } from '../agent/readiness.ts';
import {
  answers,
  clusterIp,
  flagsOf,
  follows,
  onSharedStage,
  sharedUser,
  value,
  watchPackets,
} from './compromised.ts';

test('whatever a compromised node writes beside the others’ leases, their traffic goes on, and none of it reaches it', async () => {
  await onSharedStage(async (made) => {
    const { lab, one, two, three, pods, attacker, lease } = made;
    const [a, b] = pods;
    await answers(made);
    const own = await lease(three);
    const victim = await lease(two);
    const mac = '02:00:00:00:66:66';
    await three.agent!.kill();
    // As where Docker runs: a network of which every node has the same.
    for (const node of [one, two])
      await node.namespace.ip(
        'link add docker0 type bridge',
        'link add uplink0 mtu 300 type veth peer name far0',
        'link set far0 up',
        'link set uplink0 up',
        'link set uplink0 master docker0',
        'link set docker0 mtu 300 up',
        'address add 172.17.0.1/16 dev docker0',
      );
    // The way to its node is said to be one that no other node is at: the tunnels are unbound from a device, once.
    await attacker.put(`${subnetKeys}10.244.218.0-24`).value(value('172.17.0.5', '02:00:00:00:66:07'));
    await follows(made, 229);
    await answers(made);
    const routes = await one.exec('ip', ['route']);
    const seen = await watchPackets(three);
    const target = { protocol: 'udp', port: servicePort, intervalMs: 10 } as const;
    const streams = [
      await a.probe.stream({ ...target, address: b.ipv4 }),
      await b.probe.stream({ ...target, address: a.ipv4 }),
    ];

    const [net] = victim.name.split('-') as [string];
    const put = (name: string, text: string) => attacker.put(subnetKeys + name).value(text);
    const claims = [
      '64.0.0.0-2',
      '128.0.0.0-1',
      '10.0.0.0-8',
      '10.244.0.0-16',
      '192.0.2.0-24',
      '192.0.2.1-32',
      '192.0.0.0-16',
      '10.96.0.0-16',
      '10.96.0.50-32',
      `${b.ipv4}-32`,
      `${net}-25`,
      `${net}-26`,
      `${net.replace(/0$/, '128')}-25`,
      `${net}-24&fd00::-64`,
      '0.0.0.0-0&::-0',
      '203.0.113.0-24',
      '127.0.0.0-24',
      '10.244.0.0-17',
    ];
    for (const [index, name] of claims.entries())
      await put(name, value(three.ipv4, `02:00:00:00:67:${String(10 + index)}`));
    // A subnet of nobody, with what is another's.
    for (const [third, ip, of] of [
      [210, three.ipv4, victim.mac],
      [211, two.ipv4, mac],
      [212, b.ipv4, '02:00:00:00:66:01'],
      [213, clusterIp, '02:00:00:00:66:02'],
      [214, '192.0.2.1', '02:00:00:00:66:03'],
      [215, '192.0.2.255', '02:00:00:00:66:04'],
      [216, one.ipv4, '02:00:00:00:66:05'],
      [217, two.ipv4, victim.mac],
    ] as const)
      await put(`10.244.${third}.0-24`, value(ip, of));
    // Again and again.
    const device = async () => (await one.exec('ip', ['-o', 'link', 'show', 'flannel.1'])).split(':')[0];
    const made1 = await device();
    for (const ip of ['172.17.0.6', three.ipv4, '172.17.0.7', three.ipv4, '172.17.0.8']) {
      await put('10.244.218.0-24', value(ip, '02:00:00:00:66:07'));
      await lab.waitFor(`${ip} to be followed`, async () =>
        (await one.exec('bridge', ['fdb', 'show', 'dev', 'flannel.1'])).includes(`dst ${ip} `),
      );
    }
    assert.equal(await device(), made1, 'the device is not made anew each time');
    // What the victim knows itself by, under names that are listed before and after its own.
    const held = (await lab.etcd.keys(subnetKeys)).map(({ key }) => key.slice(subnetKeys.length));
    const forged = ['10.244.1.0-24', '10.244.99.0-24'].filter((name) => !held.includes(name));
    for (const name of forged) await put(name, value(two.ipv4, victim.mac));
    // Its own lease says that it has the victim's MAC address; it is older than the victim's.
    await put(own.name, value(three.ipv4, victim.mac));
    await put('10.244.220.0-24\nERROR forged', 'x'.repeat(100_000));

    await follows(made, 230);
    await answers(made);
    for (const node of [one, two]) {
      const { status, text } = await readyz(node);
      assert.equal(status, 200, text);
      assert.match(text, /skipped: its subnet 10\.0\.0\.0\/8 is not in the pod network 10\.244\.0\.0\/16/);
      assert.doesNotMatch(text, /^ERROR/m);
      assert.doesNotMatch(node.agent!.log(), /^ERROR/m);
    }
    // From the beginning, in whatever order etcd lists them.
    for (const node of [one, two]) {
      await node.agent!.kill();
      await node.startAgent(flagsOf(sharedUser));
    }
    await follows(made, 231);
    await answers(made);
    const file = readFileSync(two.subnetFile, 'utf8');
    // An address behind the small device that each node has: no packet is smaller than every link takes.
    assert.match(file, /^FLANNEL_MTU=1230$/m);
    assert.ok(file.includes(`FLANNEL_SUBNET=${net.replace(/0$/, '1')}/24`), file);
    for (const stream of streams) {
      const { sent, received } = await stream.end();
      assert.equal(received, sent);
    }
    const fdb = await one.exec('bridge', ['fdb', 'show', 'dev', 'flannel.1']);
    assert.match(fdb, new RegExp(`${victim.mac} dst ${two.ipv4}`));
    for (const line of routes.split('\n').filter((text) => !text.includes('proto 80')))
      assert.ok((await one.exec('ip', ['route'])).includes(line), line);
    const counters = await seen();
    assert.equal(counters.match(/packets 0 bytes 0/g)?.length, 2, counters);
  });
});

test('a lease that another node overwrites is put back by its owner, every time, and the owner keeps its subnet', async () => {
  await onSharedStage(async (made) => {
    const { lab, two, three, attacker, lease } = made;
    const { name, value: right } = await lease(two);
    await three.agent!.kill();
    for (const wrong of [
      value(three.ipv4, '02:00:00:00:66:66'),
      value(two.ipv4, '02:00:00:00:66:66'),
      value(three.ipv4, '02:00:00:00:66:67'),
      value(two.ipv4, '02:00:00:00:66:68'),
      'rubbish',
      'x'.repeat(1_000_000),
    ]) {
      await attacker.put(subnetKeys + name).value(wrong);
      await lab.waitFor(
        'the lease to be right again',
        async () => (await lab.etcd.get(subnetKeys + name)) === right,
      );
    }
    await answers(made);
  });
});
