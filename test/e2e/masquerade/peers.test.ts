import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { defaultNetworkConfig, type Lab, withLab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { subnetKeys } from '../../lab/two-nodes.ts';
import { macOf, tunnels, type UdpSink, udpSend, udpSink, vxlan } from '../../lab/udp.ts';
import { healthFlags, readyz } from '../agent/readiness.ts';

const port = 5555;
const flags = ['--iptables-resync=1', ...healthFlags];
const strict = [...flags, '--vxlan-peers-only'];

interface Victim {
  readonly lab: Lab;
  readonly node: LabNode;
  readonly pod: Pod;
  readonly sink: UdpSink;
}

/** From outside of the cluster, to the node's VXLAN port, what another node would carry to the pod. */
async function forge({ lab, node, pod }: Victim, text: string): Promise<void> {
  for (const { name, device, pretended } of tunnels) {
    const inner = { vni: 1, mac: await macOf(node.namespace, device), port, text };
    const data = vxlan({ ...inner, source: pretended, destination: pod[name]! });
    await udpSend(lab.client.namespace, { address: node[name], port: 8472, data });
  }
}

async function table(node: LabNode): Promise<string> {
  return (await node.namespace.run('nft', ['list', 'table', 'inet', 'twill-peers'])).stdout;
}

async function dropped(node: LabNode): Promise<string> {
  return [...(await table(node)).matchAll(/counter packets (\d+)/g)].map(([, count]) => count).join();
}

/** Waits until the nodes, and no others, may send to this one. */
async function peersAre(lab: Lab, node: LabNode, peers: readonly LabNode[]): Promise<void> {
  const wanted = peers.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]).sort();
  await lab.waitFor(`the peers ${wanted}`, async () => {
    const found = [...(await table(node)).matchAll(/elements = \{([^}]*)\}/g)];
    const addresses = found.flatMap(([, inside]) => inside!.split(',').map((text) => text.trim()));
    return addresses.sort().join() === wanted.join();
  });
}

async function heard({ lab, pod, sink }: Victim, from: Pod, mark: string): Promise<void> {
  for (const { name } of tunnels)
    await lab.waitFor(`${from.name} to be heard`, async () => {
      await udpSend(from.namespace, { address: pod[name]!, port, data: `${mark} ${name}` });
      return sink.received.includes(`${mark} ${name}`);
    });
}

for (const nftables of [false, true])
  describe(`--vxlan-peers-only, ${nftables ? 'nftables' : 'iptables'}`, () => {
    const networkConfig = {
      ...defaultNetworkConfig,
      EnableIPv6: true,
      IPv6Network: 'fd00:244::/48',
      EnableNFTables: nftables,
    };

    it('keeps strangers off, follows the leases, is put right, and goes with the flag', () =>
      withLab({ nodes: 3, networkConfig }, async (lab) => {
        const [node, second, third] = lab.nodes as [LabNode, LabNode, LabNode];
        await Promise.all([node, second].map((each) => each.startAgent(strict)));
        const pod = await node.addPod('victim');
        const victim = { lab, node, pod, sink: await udpSink(pod.namespace, '::', port) };
        const far = await second.addPod('far');
        await peersAre(lab, node, [second]);
        // Link-local addresses of fresh interfaces are tentative for a second or two: until then no neighbour is found.
        for (const address of [node.ipv4, node.ipv6])
          await lab.waitFor(`the way to ${address}`, async () => {
            await lab.client.exec('ping', ['-c', '1', '-W', '1', address]);
            return true;
          });
        await forge(victim, 'forged');
        await lab.waitFor('both packets to be counted', async () => (await dropped(node)) === '1,1');
        await heard(victim, far, 'far');

        // A lease that is skipped makes nobody a peer.
        const value = {
          PublicIP: lab.client.ipv4,
          BackendType: 'vxlan',
          BackendData: { VNI: 1, VtepMAC: '02:00:00:00:00:99' },
        };
        await lab.etcd.put(`${subnetKeys}10.99.0.0-24`, JSON.stringify(value));
        await lab.waitFor('the lease to be skipped', async () =>
          (await readyz(node)).text.includes('lease 10.99.0.0-24: skipped'),
        );
        await third.startAgent(strict);
        await peersAre(lab, node, [second, third]);
        await heard(victim, await third.addPod('new'), 'new');
        await forge(victim, 'forged');
        await lab.waitFor('both packets to be counted', async () => (await dropped(node)) === '2,2');

        await node.exec('nft', ['flush', 'ruleset']);
        await peersAre(lab, node, [second, third]);
        const element = `{ ${lab.client.ipv4} }`;
        await node.exec('nft', ['add', 'element', 'inet', 'twill-peers', 'peers-ipv4', element]);
        await peersAre(lab, node, [second, third]);
        await node.exec('nft', ['flush', 'chain', 'inet', 'twill-peers', 'input']);
        await lab.waitFor('the rules', async () => (await dropped(node)) === '0,0');
        assert.match((await readyz(node)).text, /\[\+\] VXLAN peers: /);

        await node.exec('nft', ['delete', 'table', 'inet', 'twill-peers']);
        await lab.waitFor('the table to be contested', async () =>
          /contested: .*twill-peers/.test((await readyz(node)).text),
        );

        await third.agent!.stop();
        const key = (await lab.etcd.keys(subnetKeys)).find((one) => one.value.includes(third.ipv4))!.key;
        await lab.etcd.client.delete().key(key);
        await peersAre(lab, node, [second]);
        assert.ok(!victim.sink.received.includes('forged'));

        await node.agent!.stop();
        await node.startAgent(flags);
        await lab.waitFor('the table to go', async () => (await table(node)) === '');
        await lab.waitFor('a forged packet', async () => {
          await forge(victim, 'forged later');
          return victim.sink.received.filter((text) => text === 'forged later').length >= 2;
        });
        assert.doesNotMatch((await readyz(node)).text, /VXLAN peers/);
      }));
  });

it('--vxlan-peers-only without nft: log and /readyz say what is missing, pods come and go', () =>
  withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
    const node = lab.nodes[0]!;
    const programs = join(node.dir, 'without-nft');
    mkdirSync(programs);
    const link = `for file in /usr/sbin/* /usr/bin/*; do ln -sf $file ${programs}; done; rm ${programs}/nft`;
    await node.exec('sh', ['-c', `${link}; ln -sf ${process.execPath} ${programs}`]);
    node.prefix = ['env', `PATH=${programs}`];
    await node.startAgent(strict);
    const missing = /--vxlan-peers-only needs nft: .* until nftables is installed/;
    await lab.waitFor('/readyz', async () => missing.test((await readyz(node)).text));
    assert.match(node.agent!.log(), missing);
    const pod = await node.addPod('pod');
    await pod.remove();
    await node.agent!.stop();
    await node.startAgent(flags);
    await lab.waitFor('/readyz', async () => (await readyz(node)).status === 200);
  }));
