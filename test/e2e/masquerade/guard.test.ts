import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultNetworkConfig, type Lab, withLab } from '../../lab/lab.ts';
import { attackLoopback, prepareLoopbackAttack } from '../../lab/loopback-attack.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Pod } from '../../lab/pod.ts';
import { macOf, tunnels, type UdpSink, udpSend, udpSink, vxlan } from '../../lab/udp.ts';

const port = 5555;
type Way = (typeof tunnels)[number];

interface Scene {
  readonly lab: Lab;
  readonly pods: { readonly attacker: Pod; readonly victims: readonly Pod[] };
  readonly sinks: readonly UdpSink[];
}

/** Sends what a node would carry to the victim, from a pod's socket. @param target where the node takes it */
async function forge(
  { pods }: Scene,
  way: Way,
  index: number,
  to: { target: string; port?: number; from?: string; text: string },
): Promise<void> {
  const victim = pods.victims[index]!;
  const data = vxlan({
    vni: 1,
    mac: await macOf(victim.node.namespace, way.device),
    source: way.pretended,
    destination: victim[way.name]!,
    port,
    text: to.text,
  });
  const { target: address, port: at = 8472, from } = to;
  await udpSend(pods.attacker.namespace, {
    address,
    port: at,
    data,
    ...(from === undefined ? {} : { from }),
  });
}

async function withScene(nftables: boolean, work: (scene: Scene) => Promise<void>): Promise<void> {
  const networkConfig = {
    ...defaultNetworkConfig,
    EnableIPv6: true,
    IPv6Network: 'fd00:244::/48',
    EnableNFTables: nftables,
  };
  await withLab({ nodes: 2, networkConfig }, async (lab) => {
    for (const node of lab.nodes) await node.startAgent(['--iptables-resync=1']);
    const [near, far] = lab.nodes as [LabNode, LabNode];
    const attacker = await near.addPod('attacker');
    const victims = [await near.addPod('near'), await far.addPod('far')];
    const sinks = await Promise.all(victims.map((pod) => udpSink(pod.namespace, '::', port)));
    for (const node of lab.nodes)
      await lab.waitFor('the guard', async () =>
        nftables
          ? (await node.exec('nft', ['list', 'ruleset'])).match(/chain guard-input/g)?.length === 2
          : (await node.exec('ip6tables-save', [])).includes('-j TWILL-GUARD-FWD'),
      );
    await work({ lab, pods: { attacker, victims }, sinks });
  });
}

/** Packets keep their order here: when the last one has come, what has not come was dropped. */
async function nothingForged(scene: Scene, way: Way, mark: string): Promise<void> {
  for (const [index, sink] of scene.sinks.entries()) {
    const address = scene.pods.victims[index]![way.name]!;
    await scene.lab.waitFor('an honest packet', async () => {
      await udpSend(scene.pods.attacker.namespace, { address, port, data: mark });
      return sink.received.includes(mark);
    });
    const forged = sink.received.filter((text) => text.startsWith('forged'));
    assert.deepEqual(forged, [], `${way.name}, pod ${index}`);
  }
}

for (const nftables of [false, true])
  describe(`packets that pods send to VXLAN ports of nodes, ${nftables ? 'nftables' : 'iptables'}`, () => {
    it('are dropped at their own and at other nodes, from whatever address, also where they are redirected there', () =>
      withScene(nftables, async (scene) => {
        const [near, far] = scene.lab.nodes as [LabNode, LabNode];
        for (const way of tunnels) {
          const { attacker, victims } = scene.pods;
          const extra = way.name === 'ipv4' ? `${way.pretended}/32` : `${way.pretended}/128 nodad`;
          await attacker.namespace.ip(`addr add ${extra} dev eth0`);
          const from = way.pretended;
          const gateway = JSON.parse(await near.exec('ip', ['-j', 'addr', 'show', 'cni0']))[0].addr_info.find(
            (one: { family: string; scope: string }) =>
              one.family === (way.name === 'ipv4' ? 'inet' : 'inet6') && one.scope === 'global',
          ).local;
          const own = near[way.name]!;
          const other = far[way.name]!;
          await forge(scene, way, 0, { target: own, text: 'forged 1' });
          await forge(scene, way, 0, { target: own, from, text: 'forged 2' });
          await forge(scene, way, 0, { target: gateway, text: 'forged 3' });
          await forge(scene, way, 1, { target: other, text: 'forged 4' });
          await forge(scene, way, 1, { target: other, from, text: 'forged 5' });
          // Somebody's redirection to a node's VXLAN port: a Service without selector can be that, too.
          const bracket = (address: string): string => (way.name === 'ipv6' ? `[${address}]` : address);
          for (const [index, target] of [own, other].entries()) {
            const rule = ['-p', 'udp', '--dport', String(9000 + index), '-j', 'DNAT'];
            await near.exec(way.iptables, [
              ...['-t', 'nat', '-A', 'PREROUTING', ...rule],
              ...['--to-destination', `${bracket(target)}:8472`],
            ]);
            await forge(scene, way, index, { target: own, port: 9000 + index, text: 'forged 6' });
          }
          await nothingForged(scene, way, 'ok');
          assert.ok(victims.length === 2);
        }
      }));

    it('would arrive without the guard; pods may carry packets in UDP among themselves', () =>
      withScene(nftables, async (scene) => {
        const [near] = scene.lab.nodes as [LabNode];
        for (const pod of scene.pods.victims) {
          const sink = await udpSink(pod.namespace, '::', 8472);
          for (const way of tunnels)
            await scene.lab.waitFor('a packet of a pod’s own tunnel', async () => {
              const data = `by ${way.name}`;
              await udpSend(scene.pods.attacker.namespace, { address: pod[way.name]!, port: 8472, data });
              return sink.received.includes(data);
            });
        }
        await near.agent!.stop();
        await near.exec('nft', ['flush', 'ruleset']);
        for (const way of tunnels)
          await scene.lab.waitFor('a forged packet', async () => {
            await forge(scene, way, 0, { target: near[way.name]!, text: `forged ${way.name}` });
            return scene.sinks[0]!.received.includes(`forged ${way.name}`);
          });
      }));
  });

describe('services on loopback', () => {
  it('are not reached by pods while host ports are open on 127.0.0.1, nor under a loopback address', () =>
    withLab({ nodes: 1, underlay: 'ipv4' }, async (lab) => {
      const node = lab.nodes[0]!;
      await node.startAgent(['--iptables-resync=1']);
      const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] };
      const server = await node.addPod('server', { capabilities: { portMappings: true }, runtimeConfig });
      const localnet = async (): Promise<string> =>
        (await node.exec('cat', ['/proc/sys/net/ipv4/conf/cni0/route_localnet'])).trim();
      assert.equal(await localnet(), '1');
      const pod = await node.addPod('attacker');
      const sink = await udpSink(node.namespace, '127.0.0.1', 9999);
      const everywhere = await udpSink(node.namespace, '0.0.0.0', 9998);
      await prepareLoopbackAttack(pod);
      const attempts = (): Promise<void> =>
        attackLoopback(pod, { loopback: 9999, ordinary: 9998 }, node.ipv4);
      await attempts();
      await lab.waitFor('an honest packet', async () => {
        await udpSend(pod.namespace, { address: node.ipv4, port: 9998, data: 'from a pod' });
        return everywhere.received.length > 0;
      });
      assert.deepEqual(sink.received, []);
      // The honest ones may be several.
      assert.deepEqual([...new Set(everywhere.received)], ['from a pod']);
      await server.remove();
      assert.equal(await localnet(), '0');
      await node.namespace.sysctl({ 'net/ipv4/conf/cni0/route_localnet': '1' });
      await node.agent!.stop();
      await node.exec('nft', ['flush', 'ruleset']);
      await lab.waitFor('what the guard keeps off', async () => {
        await attempts();
        return sink.received.length >= 2;
      });
    }));
});
