import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Etcd3 } from 'etcd3';
import { stringify } from 'yaml';
import { etcdPrefix, type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';
import { flannelLease } from '../overlay/state.ts';

const user = { username: 'node', password: 'every node has it' };
const flags = [`--etcd-username=${user.username}`, `--etcd-password=${user.password}`, ...healthFlags];
const clusterIp = '10.96.0.50';

const service = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { clusterIP: clusterIp, ports: [{ port: 80, targetPort: servicePort }] },
  },
  (address: string) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: '', port: servicePort, protocol: 'TCP' }],
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
  }),
] as const;

const value = (ip: string, mac: string): string =>
  JSON.stringify({ PublicIP: ip, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } });

/** Counts what the node receives that is for others: what is encapsulated, and what is not. */
async function watchPackets(node: LabNode): Promise<() => Promise<string>> {
  const rules = [
    'add table inet watch',
    'add chain inet watch in { type filter hook prerouting priority -400; }',
    'add rule inet watch in iifname eth0 udp dport 8472 counter',
    'add rule inet watch in iifname eth0 ip daddr { 10.244.0.0/16, 10.96.0.0/16 } counter',
  ];
  await node.namespace.exec('nft', ['-f', '-'], { input: `${rules.join('\n')}\n` });
  return () => node.exec('nft', ['list', 'table', 'inet', 'watch']);
}

interface Stage {
  readonly lab: Lab;
  readonly one: LabNode;
  readonly two: LabNode;
  readonly three: LabNode;
  readonly pods: readonly [Pod, Pod];
  readonly attacker: Etcd3;
  /** The value of a node's lease, and where it is. */
  readonly lease: (node: LabNode) => Promise<{ name: string; mac: string; value: string }>;
}

async function stage(lab: Lab): Promise<Stage> {
  const [one, two, three] = lab.nodes as [LabNode, LabNode, LabNode];
  await lab.etcd.requireUser(user, subnetKeys, [`${etcdPrefix}/config`]);
  // The one that will be compromised is the oldest.
  await three.startAgent(flags);
  await Promise.all([one, two].map((node) => node.startAgent(flags)));
  const pods = [await one.addPod('a'), await two.addPod('b')] as const;
  for (const pod of pods) await pod.serve();
  lab.writeManifest('web.yaml', `${stringify(service[0])}---\n${stringify(service[1](pods[1].ipv4))}`);
  await Promise.all([one, two].map((node) => node.startProxy()));
  const attacker = new Etcd3({ hosts: lab.etcd.localEndpoint, auth: user });
  const lease = async (node: LabNode) => {
    const keys = await lab.etcd.keys(subnetKeys);
    const found = keys.find((key) => key.value.includes(`"PublicIP":"${node.ipv4}"`));
    assert.ok(found, `no lease of ${node.name}`);
    const mac = /VtepMAC":"([^"]+)/.exec(found.value)?.[1] ?? '';
    return { name: found.key.slice(subnetKeys.length), mac, value: found.value };
  };
  return { lab, one, two, three, pods, attacker, lease };
}

async function answers({ lab, pods: [a, b] }: Stage): Promise<void> {
  const targets = [
    [a, b.ipv4, servicePort],
    [b, a.ipv4, servicePort],
    [a, clusterIp, 80],
  ] as const;
  for (const [from, address, port] of targets)
    await lab.waitFor(`an answer from ${address}`, () =>
      from.probe.ask({ protocol: 'tcp', address, port, timeoutMs: 500 }),
    );
}

/** An administrator's lease arrives at the nodes: they follow etcd, and have looked at all that was written before. */
async function follows({ lab, one, two }: Stage, third: number): Promise<void> {
  const { key, value: good } = flannelLease(
    third,
    `02:00:00:00:01:${third % 90}`.padEnd(17, '0'),
    `198.51.100.${third}`,
  );
  await lab.etcd.put(key, good);
  for (const node of [one, two])
    await lab.waitFor(`a later lease to arrive at ${node.name}`, async () =>
      (await node.exec('ip', ['route'])).includes(`10.244.${third}.0/24 `),
    );
}

test('whatever a compromised node writes beside the others’ leases, their traffic goes on, and none of it reaches it', async () => {
  await withLab({ nodes: 3, underlay: 'ipv4' }, async (lab) => {
    const made = await stage(lab);
    const { one, two, three, pods, attacker, lease } = made;
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
      await node.startAgent(flags);
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
    attacker.close();
  });
});

test('a lease that another node overwrites is put back by its owner, every time, and the owner keeps its subnet', async () => {
  await withLab({ nodes: 3, underlay: 'ipv4' }, async (lab) => {
    const made = await stage(lab);
    const { two, three, attacker, lease } = made;
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
    attacker.close();
  });
});
