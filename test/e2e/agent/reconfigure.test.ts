import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { callCni } from '../../lab/cni.ts';
import { etcdPrefix, Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import type { Pod } from '../../lab/pod.ts';
import { assertConverges, flannelLease, saidSince } from '../overlay/state.ts';
import { healthFlags, readyz } from './readiness.ts';

const subnets = `${etcdPrefix}/subnets/`;
const v4 = { Network: '10.244.0.0/16', SubnetMin: '10.244.1.0', SubnetMax: '10.244.9.0' };

const base = { ...v4, Backend: { Type: 'vxlan' } };

describe('the network configuration changes while the agents run', () => {
  let lab: Lab;
  let one: LabNode;
  let pods: Pod[];

  const configure = async (config: object): Promise<void> =>
    lab.etcd.put(`${etcdPrefix}/config`, JSON.stringify(config));
  const everywhere = async (what: string, check: (node: LabNode) => Promise<boolean>): Promise<void> => {
    for (const node of lab.nodes) await lab.waitFor(`${what} on ${node.name}`, () => check(node));
  };
  const routes = (node: LabNode): Promise<string> => node.exec('ip', ['-N', 'route', 'show', 'proto', '80']);
  const device = async (node: LabNode, name: string): Promise<string> =>
    (await node.namespace.run('ip', ['-d', 'link', 'show', name])).stdout;
  const traffic = async (from: Pod, to: Pod): Promise<void> => {
    await to.serve();
    await lab.waitFor(`traffic from ${from.node.name} to ${to.node.name}`, async () => {
      const answer = await from.probe.ask({
        protocol: 'tcp',
        address: to.ipv4,
        port: servicePort,
        timeoutMs: 500,
      });
      return answer.server === to.name && answer.client === from.ipv4;
    });
  };
  const bothWays = async (): Promise<void> => {
    const [a, b] = pods as [Pod, Pod];
    await traffic(a, b);
    await traffic(b, a);
  };
  const keys = async (): Promise<string[]> => (await lab.etcd.keys(subnets)).map(({ key }) => key);

  before(async () => {
    lab = await Lab.start({ nodes: 2, networkConfig: base });
    one = lab.nodes[0]!;
    await Promise.all(lab.nodes.map((node) => node.startAgent([...healthFlags, '--log-level=debug'])));
  });
  after(() => lab.stop());

  /** Every test starts with the same configuration in force and a pod on each node. */
  beforeEach(async () => {
    await configure(base);
    await everywhere('the configuration of the beginning', async (node) => {
      const file = readFileSync(node.subnetFile, 'utf8');
      const alone = file.includes('FLANNEL_NETWORK=10.244.0.0/16') && !file.includes('IPV6');
      return alone && file.includes('FLANNEL_MTU=1450') && (await readyz(node)).status === 200;
    });
    for (const node of lab.nodes) await assertConverges(lab, node);
    await everywhere('the rules', async (node) =>
      (await node.exec('iptables-save', [])).includes('-j FLANNEL-POSTRTG'),
    );
    pods = await Promise.all(lab.nodes.map((node) => node.addPod('a')));
    await bothWays();
  });
  afterEach(async () => {
    for (const node of lab.nodes) for (const pod of [...node.pods]) await pod.remove();
  });

  it('MTU: the device and new pods have it, and no packet is lost', async () => {
    const [a, b] = pods as [Pod, Pod];
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 10 });
    await configure({ ...v4, Backend: { Type: 'vxlan', MTU: 1400 } });
    await everywhere('the MTU', async (node) => (await device(node, 'flannel.1')).includes('mtu 1350'));
    await everywhere('the subnet file', async (node) =>
      readFileSync(node.subnetFile, 'utf8').includes('FLANNEL_MTU=1350'),
    );
    const { sent, received } = await stream.end();
    assert.equal(received, sent);
  });

  it('DirectRouting comes and goes, among many nodes: no packet is lost', async () => {
    const [a, b] = pods as [Pod, Pod];
    const others = Array.from({ length: 200 }, (_, index) => index + 50).map((third) =>
      flannelLease(third, `02:00:00:00:00:${third.toString(16)}`),
    );
    for (const { key, value } of others) await lab.etcd.put(key, value);
    const count = async (node: LabNode, pattern: RegExp): Promise<number> =>
      (await routes(node)).match(pattern)?.length ?? 0;
    const [tunnelled, plain] = [/ dev flannel\.1 /g, /via 192\.0\.2\.\d+ dev eth0/g];
    const all = others.length + 1;
    try {
      await everywhere('the routes', async (node) => (await count(node, tunnelled)) === all);
      const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
      const stream = await a.probe.stream({ ...target, intervalMs: 2 });
      await configure({ ...v4, Backend: { Type: 'vxlan', DirectRouting: true } });
      await everywhere('plain routes', async (node) => (await count(node, plain)) === all);
      await configure(base);
      await everywhere('the tunnel', async (node) => (await count(node, tunnelled)) === all);
      const { sent, received } = await stream.end();
      assert.equal(received, sent);
    } finally {
      for (const { key } of others) await lab.etcd.delete(key);
    }
    await bothWays();
  });

  it('VNI and port: a new device takes the place of the old one', async () => {
    await configure({ ...v4, Backend: { Type: 'vxlan', VNI: 7, Port: 4789 } });
    for (const node of lab.nodes) await assertConverges(lab, node, { vni: 7 });
    await everywhere('the old device to go', async (node) => (await device(node, 'flannel.1')) === '');
    assert.match(await device(one, 'flannel.7'), /id 7 .*dstport 4789/);
    for (const { value } of await lab.etcd.keys(subnets)) assert.match(value, /"VNI":7/);
    await bothWays();
  });

  it('Learning: changed of the device that stands, and no packet is lost', async () => {
    const [a, b] = pods as [Pod, Pod];
    const index = (await device(one, 'flannel.1')).split(':')[0]!;
    const target = { protocol: 'udp', address: b.ipv4, port: servicePort } as const;
    const stream = await a.probe.stream({ ...target, intervalMs: 10 });
    await configure({ ...v4, Backend: { Type: 'vxlan', Learning: true } });
    await everywhere('learning', async (node) =>
      / dstport 8472 (?!nolearning)/.test(await device(node, 'flannel.1')),
    );
    const { sent, received } = await stream.end();
    assert.equal(received, sent);
    assert.ok((await device(one, 'flannel.1')).startsWith(`${index}:`));
  });

  it('backend host-gw: the devices go, the leases say so', async () => {
    await configure({ ...v4, Backend: { Type: 'host-gw' } });
    await everywhere('plain routes', async (node) => /via 192\.0\.2\.\d+ dev eth0/.test(await routes(node)));
    await everywhere('the device to go', async (node) => (await device(node, 'flannel.1')) === '');
    for (const { value } of await lab.etcd.keys(subnets)) assert.match(value, /"BackendType":"host-gw"/);
    await bothWays();
    await configure({ ...v4, Backend: { Type: 'vxlan' } });
    for (const node of lab.nodes) await assertConverges(lab, node);
    await bothWays();
  });

  it('EnableNFTables: the rules move, and are in one place only', async () => {
    await configure({ ...v4, EnableNFTables: true, Backend: { Type: 'vxlan' } });
    const iptables = (node: LabNode): Promise<string> => node.exec('iptables-save', []);
    const nft = async (node: LabNode): Promise<string> =>
      (await node.namespace.run('nft', ['list', 'table', 'ip', 'flannel-ipv4'])).stdout;
    await everywhere('the table', async (node) => (await nft(node)).includes('masquerade'));
    await everywhere('the chains to go', async (node) => !(await iptables(node)).includes('FLANNEL'));
    await configure({ ...v4, Backend: { Type: 'vxlan' } });
    await everywhere('the chains', async (node) => (await iptables(node)).includes('-j FLANNEL-POSTRTG'));
    await everywhere('the table to go', async (node) => !(await nft(node)).includes('masquerade'));
    assert.ok(!one.agent!.log().includes('put rules right'), 'nobody had changed them');
  });

  it('a wider network: subnets stay', async () => {
    const before = await keys();
    await configure({
      Network: '10.244.0.0/15',
      SubnetMin: '10.244.1.0',
      SubnetMax: '10.245.9.0',
      Backend: { Type: 'vxlan' },
    });
    await everywhere('the subnet file', async (node) =>
      readFileSync(node.subnetFile, 'utf8').includes('FLANNEL_NETWORK=10.244.0.0/15'),
    );
    await everywhere('the rules', async (node) =>
      (await node.exec('iptables', ['-t', 'nat', '-S'])).includes('-s 10.244.0.0/15'),
    );
    assert.deepEqual(await keys(), before);
    await bothWays();
    assert.equal((await readyz(one)).status, 200);
  });

  it('IPv6 comes: IPv4 subnets stay, and pods with it; the node holds a lease and wires pods all the time', async () => {
    const before = await keys();
    const v6 = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };
    const from = one.agent!.log().length;
    const revision = await lab.etcd.client.get('/').exec();
    await configure({ ...v4, ...v6, Backend: { Type: 'vxlan' } });
    const statuses: number[] = [];
    await lab.waitFor('both leases', async () => {
      statuses.push((await callCni(one.namespace, { command: 'STATUS', config: one.netconf })).status);
      const now = await keys();
      return now.length === 2 && now.every((key) => key.includes('&fd00:244:'));
    });
    assert.deepEqual(
      statuses.filter((status) => status !== 0),
      [],
      'an ADD would have been refused',
    );
    assert.ok(!saidSince(one, from, /our lease is lost|giving it back/));
    // At no revision of etcd is there a node without a lease.
    for (let at = Number(revision.header.revision) + 1; ; at++) {
      const answer = await lab.etcd.client.getAll().prefix(subnets).revision(String(at)).exec();
      assert.equal(answer.kvs.length, 2, `at revision ${at}`);
      if (answer.kvs.every(({ key }) => key.includes('&fd00:244:'))) break;
    }
    assert.deepEqual((await keys()).map((key) => key.split('&')[0]).sort(), before.sort());
    await bothWays();
    await everywhere('both families', async (node) =>
      readFileSync(node.subnetFile, 'utf8').includes('FLANNEL_IPV6_SUBNET='),
    );
    const both = await Promise.all(lab.nodes.map((node) => node.addPod('dual')));
    await both[1]!.serve();
    const answer = await lab.waitFor('IPv6 traffic', () =>
      both[0]!.probe.ask({ protocol: 'tcp', address: both[1]!.ipv6, port: servicePort, timeoutMs: 500 }),
    );
    assert.equal(answer.client, both[0]!.ipv6);
    const rules = (node: LabNode): Promise<string> => node.exec('ip6tables-save', []);
    await everywhere('rules for it', async (node) => /-j FLANNEL-POSTRTG/.test(await rules(node)));
    for (const node of lab.nodes) for (const pod of [...node.pods]) await pod.remove();
    await configure(base);
    await everywhere('them to go with it', async (node) => !/FLANNEL|TWILL/.test(await rules(node)));
  });

  for (const [what, config, complaint] of [
    [
      'an MTU that no packet fits in',
      { ...v4, Backend: { Type: 'vxlan', MTU: 60 } },
      /Backend\.MTU is 60: at least 118/,
    ],
    [
      'an MTU too small for IPv6',
      { ...v4, EnableIPv6: true, IPv6Network: 'fd00:244::/48', Backend: { Type: 'vxlan', MTU: 1300 } },
      /Backend\.MTU is 1300: at least 1350/,
    ],
    [
      'the network between the nodes',
      { Network: '192.0.2.0/24', Backend: { Type: 'vxlan' } },
      /192\.0\.2\.0\/24 lies in 192\.0\.2\.0\/24, the network between the nodes/,
    ],
    [
      'no subnets',
      { ...v4, SubnetMin: '10.244.9.0', SubnetMax: '10.244.8.0', Backend: { Type: 'vxlan' } },
      /no subnet is left/,
    ],
  ] as const)
    it(`one that cannot work (${what}) is refused as a whole: nothing changes`, async () => {
      const state = async (): Promise<unknown> => [
        await keys(),
        readFileSync(one.subnetFile, 'utf8'),
        await device(one, 'flannel.1'),
        await routes(one),
      ];
      const before = await state();
      await configure(config);
      await lab.waitFor('the complaint', async () => {
        const { status, text } = await readyz(one);
        return status === 200 && /\[!\] network configuration: /.test(text) && complaint.test(text);
      });
      assert.deepEqual(await state(), before);
      await bothWays();
    });

  it('a wrong one is named and changes nothing; a missing one neither', async () => {
    const before = await keys();
    await configure({ ...v4, Backend: { Type: 'udp' } });
    await lab.waitFor('the complaint', async () =>
      /^200[\s\S]*\[!\] network configuration: .*Backend\.Type is 'udp'.*stays in force/.test(
        (await readyz(one)).text,
      ),
    );
    await lab.etcd.delete(`${etcdPrefix}/config`);
    await lab.waitFor('the complaint', async () =>
      /\[!\] network configuration: .*config is missing in etcd/.test((await readyz(one)).text),
    );
    assert.deepEqual(await keys(), before);
    await bothWays();
  });

  it("another network waits for the node's pods to go, says so, and is taken up then", async () => {
    const before = await keys();
    const from = one.agent!.log().length;
    await configure({ Network: '10.9.0.0/16', Backend: { Type: 'vxlan' } });
    await lab.waitFor('the reason', async () =>
      /^200[\s\S]*\[!\] network configuration: .*takes the subnet 10\.244\.\d\.0-24\S* away from 1 pods.*drain/.test(
        (await readyz(one)).text,
      ),
    );
    assert.ok(saidSince(one, from, /drain it/));
    assert.deepEqual(await keys(), before);
    await bothWays();
    for (const pod of pods) await pod.remove();
    await lab.waitFor('leases of the new network', async () => {
      const now = await keys();
      return now.length === 2 && now.every((key) => key.startsWith(`${subnets}10.9.`));
    });
    await everywhere('the subnet file', async (node) =>
      readFileSync(node.subnetFile, 'utf8').includes('FLANNEL_NETWORK=10.9.0.0/16'),
    );
    for (const node of lab.nodes) await assertConverges(lab, node);
    pods = await Promise.all(lab.nodes.map((node) => node.addPod('b')));
    for (const pod of pods) assert.match(pod.ipv4, /^10\.9\./);
    await bothWays();
    await everywhere('IPv6 to go', async (node) => {
      const rules = await node.exec('ip6tables', ['-t', 'nat', '-S']);
      return !rules.includes('FLANNEL') && (await device(node, 'flannel-v6.1')) === '';
    });
  });
});

it('a configuration that the node cannot follow is named, and everything goes on as before', async () => {
  await withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    await node.startAgent(healthFlags);
    const config = { ...v4, EnableIPv6: true, IPv6Network: 'fd00:244::/48', Backend: { Type: 'vxlan' } };
    await lab.etcd.put(`${etcdPrefix}/config`, JSON.stringify(config));
    await lab.waitFor('the reason', async () =>
      /^200[\s\S]*\[!\] network configuration: no interface with IPv4 and IPv6/.test(
        (await readyz(node)).text,
      ),
    );
    const { key, value } = flannelLease(40, '02:00:00:00:00:40');
    await lab.etcd.put(key, value);
    await assertConverges(lab, node);
  });
});
