import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { type FlannelNode, tunnel, wireLikeFlannel } from '../../lab/flannel-node.ts';
import { etcdPrefix, Lab, podSubnets, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import { assertConverges, flannelLease } from './state.ts';

/** The third part of the subnet of a node that left while flanneld was down. */
const ghost = 77;
describe('a cluster of flanneld nodes', () => {
  let lab: Lab;
  let one: FlannelNode;
  let two: FlannelNode;

  before(async () => {
    lab = await Lab.start({ nodes: 2, underlay: 'ipv4' });
    const [first, second] = lab.nodes as [LabNode, LabNode];
    one = { node: first, third: 21, mac: '0a:00:00:00:00:21' };
    two = { node: second, third: 22, mac: '0a:00:00:00:00:22' };
    await wireLikeFlannel(one, [two]);
    await wireLikeFlannel(two, [one]);
    for (const { node, third, mac } of [one, two]) {
      const { ID } = await lab.etcd.client.leaseClient.leaseGrant({ TTL: 86_400 });
      const { key, value } = flannelLease(third, mac, node.ipv4);
      await lab.etcd.client.kv.put({ key: Buffer.from(key), value: Buffer.from(value), lease: ID });
    }
    // A node that left while flanneld was down: flanneld never removes what it had set up for it.
    await first.namespace.ip(
      `route add ${tunnel(ghost)}/24 via ${tunnel(ghost)} dev flannel.1 onlink`,
      `neighbour add ${tunnel(ghost)} lladdr 0a:00:00:00:00:77 dev flannel.1 nud permanent`,
    );
    writeFileSync(
      first.subnetFile,
      `FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n`,
    );
  });
  after(() => lab.stop());

  it('is adopted on one node without a lost packet: device, MAC, subnet, lease and rules', async () => {
    const { node } = one;
    const look = async (): Promise<string[]> => [
      (await node.exec('cat', ['/sys/class/net/flannel.1/ifindex'])).trim(),
      (await node.exec('cat', ['/sys/class/net/flannel.1/address'])).trim(),
      await node.exec('iptables', ['-t', 'nat', '-S']),
      await node.exec('iptables', ['-S']),
      JSON.stringify(await lab.etcd.keys(`${etcdPrefix}/subnets/`)),
    ];
    const before = await look();
    await Promise.all([one.node.serve(), two.node.serve()]);
    const target = { protocol: 'udp', port: servicePort, intervalMs: 5 } as const;
    const streams = [
      await two.node.probe.stream({ ...target, address: tunnel(one.third) }),
      await one.node.probe.stream({ ...target, address: tunnel(two.third) }),
    ];
    await node.startAgent(['--log-level=debug']);
    await lab.waitFor('the agent to be done', () => node.agent!.log().includes('watches the kernel'));
    await assertConverges(lab, node);
    for (const stream of streams) {
      const { sent, received } = await stream.end();
      assert.equal(received, sent);
      assert.ok(sent > 10);
    }
    assert.deepEqual(await look(), before);
    const rest = await node.exec('ip', ['route', 'show', 'dev', 'flannel.1']);
    assert.ok(!rest.includes(tunnel(ghost)), 'the entries of the node that left are gone');
  });

  it('pods of the Twill node and the flanneld node exchange traffic', async () => {
    const pod = await one.node.addPod('a');
    await pod.serve();
    const there = await pod.probe.ask({ protocol: 'tcp', address: tunnel(two.third), port: servicePort });
    assert.deepEqual(there, { server: two.node.name, client: pod.ipv4 });
    const back = await two.node.probe.ask({ protocol: 'tcp', address: pod.ipv4, port: servicePort });
    assert.deepEqual(back, { server: pod.name, client: tunnel(two.third) });
  });
});

it('a flanneld with host-gw: its routes for nodes that left go, those of the administrator stay', async () => {
  const networkConfig = { ...podSubnets, Backend: { Type: 'host-gw' } };
  await withLab({ nodes: 1, underlay: 'ipv4', networkConfig }, async (lab) => {
    const node = lab.nodes[0]!;
    const peer = '{"PublicIP":"192.0.2.22","PublicIPv6":null,"BackendType":"host-gw"}';
    await lab.etcd.put(`${etcdPrefix}/subnets/10.244.22.0-24`, peer);
    // What flanneld's `netlink.RouteAdd` amounts to; `ip` writes the same protocol, boot.
    await node.namespace.ip(
      `route add ${tunnel(22)}/24 via 192.0.2.22 dev eth0`,
      `route add ${tunnel(ghost)}/24 via 192.0.2.77 dev eth0`,
    );
    const administrators = [
      'route add 10.244.128.0/20 via 192.0.2.1 dev eth0',
      'route add 10.244.130.0/24 via 192.0.2.1 dev eth0 proto static',
      'route add 10.244.131.0/24 dev eth0 metric 50',
    ];
    await node.namespace.ip(...administrators);
    writeFileSync(
      node.subnetFile,
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=true\n',
    );
    await node.startAgent();
    const routes = (): Promise<string> => node.exec('ip', ['-N', 'route', 'show']);
    const after = await lab.waitFor('the routes', async () => {
      const now = await routes();
      const [ours, left] = [`${tunnel(22)}/24 via 192.0.2.22 dev eth0 proto 80`, tunnel(ghost)];
      return now.includes(ours) && !now.includes(left) && now;
    });
    for (const kept of ['10.244.128.0/20', '10.244.130.0/24', '10.244.131.0/24'])
      assert.ok(after.includes(kept), `${kept} in ${after}`);
    assert.match(node.agent!.log(), /removing what an earlier run left.*10\.244\.77\.0/);
    // From now on such a route is not flanneld's: it stays, over a restart too.
    await node.namespace.ip(`route add ${tunnel(ghost)}/24 via 192.0.2.77 dev eth0`);
    await node.agent!.stop();
    await node.startAgent();
    assert.ok((await routes()).includes(tunnel(ghost)));
  });
});
