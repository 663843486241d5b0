import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { callCni, podRecords } from '../../lab/cni.ts';
import { type ChainPod, FlannelChain } from '../../lab/flannel-chain.ts';
import { type FlannelNode, tunnel, wireLikeFlannel } from '../../lab/flannel-node.ts';
import { type Lab, withLab } from '../../lab/lab.ts';
import { Load } from '../../lab/load.ts';
import { Namespace } from '../../lab/namespace.ts';
import { Place, servicePort } from '../../lab/place.ts';
import { flannelLease } from '../overlay/state.ts';

/** A pod that flannel's chain made, serving. */
interface OldPod {
  readonly place: Place;
  readonly made: ChainPod;
}

/** A node of a flannel cluster with living pods. */
interface OldNode extends FlannelNode {
  readonly pods: readonly OldPod[];
}

const webPort = 9080;
const hostPort = (port: number) => ({
  portMappings: [{ hostPort: port, containerPort: servicePort, protocol: 'tcp' }],
});

async function flannelNode(lab: Lab, index: number): Promise<OldNode> {
  const node = lab.nodes[index]!;
  const third = 21 + index;
  const mac = `0a:00:00:00:00:${third}`;
  const { ID } = await lab.etcd.client.leaseClient.leaseGrant({ TTL: 86_400 });
  const { key, value } = flannelLease(third, mac, node.ipv4);
  await lab.etcd.client.kv.put({ key: Buffer.from(key), value: Buffer.from(value), lease: ID });
  const environment = `FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.${third}.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n`;
  writeFileSync(node.subnetFile, environment);
  const [subnet, network] = [`10.244.${third}.0/24`, '10.244.0.0/16'];
  const chain = new FlannelChain({ node: node.namespace, dataDir: node.cniDataDir, subnet, network });
  const pods: OldPod[] = [];
  for (const name of ['web', 'other', 'third']) {
    const namespace = await Namespace.make(`${node.name}-${name}`, node.guard);
    const config = name === 'web' ? hostPort(webPort) : {};
    const made = await chain.add(namespace.name, namespace.path, config);
    const ipv4: string = made.result.ips[0].address.split('/')[0];
    const place = new Place(`${node.name}-${name}`, namespace, { ipv4 });
    await place.serve();
    pods.push({ place, made });
  }
  return { node, third, mac, pods };
}

/** Traffic of every kind between two nodes and from outside, from now on. */
async function startTraffic(lab: Lab, near: OldNode, far: OldNode) {
  const [a, b] = [near.pods[0]!.place, far.pods[0]!.place];
  const tcp = { protocol: 'tcp', port: servicePort } as const;
  const loads = [
    new Load(a, { ...tcp, address: b.ipv4 }, 20),
    new Load(b, { ...tcp, address: a.ipv4 }, 20),
    new Load(near.pods[1]!.place, { ...tcp, address: a.ipv4 }, 20),
    new Load(lab.client, { protocol: 'tcp', port: webPort, address: near.node.ipv4 }, 20),
    new Load(lab.client, { protocol: 'tcp', port: webPort, address: far.node.ipv4 }, 20),
  ];
  const streams = [
    await a.probe.stream({ ...tcp, address: b.ipv4, intervalMs: 20 }),
    await b.probe.stream({ protocol: 'udp', port: servicePort, address: a.ipv4, intervalMs: 20 }),
    await lab.client.probe.stream({
      protocol: 'tcp',
      port: webPort,
      address: near.node.ipv4,
      intervalMs: 20,
    }),
  ];
  return {
    answered: (count: number) => loads.every((load) => load.answered > count),
    async assertUnharmed(): Promise<void> {
      for (const load of loads) {
        const { failures, answered, servers } = await load.end();
        assert.deepEqual(failures, []);
        assert.ok(answered > 10);
        assert.equal(servers.size, 1, 'the same pod answered all the time');
      }
      for (const stream of streams) {
        const { sent, received } = await stream.end();
        assert.equal(received, sent);
      }
    },
  };
}

async function assertNothingLeft(old: OldNode): Promise<void> {
  const { node, pods } = old;
  for (const { made } of pods) {
    const call = { command: 'DEL', containerId: made.containerId, netns: made.netns, ifname: 'eth0' };
    const { status, stdout } = await callCni(node.namespace, { ...call, config: node.netconf });
    assert.equal(status, 0, stdout);
  }
  const reserved = readdirSync(join(node.cniDataDir, 'networks/cbr0')).filter((name) => /^\d/.test(name));
  assert.deepEqual(reserved, []);
  const rules = await node.exec('iptables-nft-save', ['-t', 'nat']);
  assert.doesNotMatch(rules, /CNI-DN-/);
  for (const { made, place } of pods) {
    assert.ok(!rules.includes(made.containerId), rules);
    assert.ok(!rules.includes(`${place.ipv4}:`), rules);
  }
  const links = JSON.parse(await node.exec('ip', ['-j', 'link', 'show', 'type', 'veth']));
  const ports = links.filter(({ ifname }: { ifname: string }) => ifname.startsWith('veth'));
  assert.equal(ports.length, node.pods.length, 'the devices of the new pods');
  assert.deepEqual(
    (await podRecords(old.node.cniSocket)).map(({ containerId }) => containerId).sort(),
    node.pods.map(({ containerId }) => containerId).sort(),
  );
}

test('two flannel nodes with living pods become Twill nodes in place: no request fails, no address twice, nothing left', async () => {
  await withLab({ nodes: 2, underlay: 'ipv4' }, async (lab) => {
    const olds = [await flannelNode(lab, 0), await flannelNode(lab, 1)] as const;
    await wireLikeFlannel(olds[0], [olds[1]]);
    await wireLikeFlannel(olds[1], [olds[0]]);
    const traffic = await startTraffic(lab, ...olds);
    for (const old of olds) {
      const { node } = old;
      await node.startAgent();
      assert.equal(node.agent!.running, true);
      const adopted = (await podRecords(old.node.cniSocket)).map(({ containerId }) => containerId).sort();
      assert.deepEqual(adopted, old.pods.map(({ made }) => made.containerId).sort());
      // The configuration names Twill from now on: what comes is made by it.
      for (const name of ['new1', 'new2']) await (await node.addPod(`${node.name}-${name}`)).serve();
      await node.agent!.stop();
      await node.startAgent();
      assert.equal((await podRecords(old.node.cniSocket)).length, 5);
      const shown = await node.exec('ip', ['-br', 'addr', 'show', 'cni0']);
      assert.deepEqual(shown.match(/\d+\.\d+\.\d+\.\d+\/\d+/g), [
        `${tunnel(old.third)}/24`.replace('.0/', '.1/'),
      ]);
    }
    const places = olds.flatMap(({ pods, node }) => [...pods.map(({ place }) => place), ...node.pods]);
    assert.equal(new Set(places.map(({ ipv4 }) => ipv4)).size, 10, 'each pod has an address of its own');
    for (const from of places)
      for (const to of places) {
        const target = { protocol: 'tcp', address: to.ipv4, port: servicePort } as const;
        assert.equal((await from.probe.ask(target)).server, to.name);
      }
    await lab.waitFor('some more traffic', () => traffic.answered(50));
    await traffic.assertUnharmed();
    // A pod that replaces an old one has its host port at once.
    const [{ node }] = olds;
    const young = await node.addPod('young', { runtimeConfig: hostPort(webPort) });
    await young.serve();
    const web = { protocol: 'tcp', address: node.ipv4, port: webPort } as const;
    assert.equal((await lab.client.probe.ask(web)).server, 'young');
    for (const old of olds) await assertNothingLeft(old);
    assert.equal((await lab.client.probe.ask(web)).server, 'young');
    const [first, second] = [olds[0].node.pods[0]!, olds[1].node.pods[0]!];
    const across = { protocol: 'tcp', address: second.ipv4, port: servicePort } as const;
    assert.equal((await first.probe.ask(across)).server, second.name);
  });
});
