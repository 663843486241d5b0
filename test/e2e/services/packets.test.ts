import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { podNetwork, withServiceLab } from '../../lab/service-lab.ts';

const clusterIP = '10.96.0.10';

function send(from: Place, ...args: readonly string[]): Promise<string> {
  return from.exec(process.execPath, [join(import.meta.dirname, '../../lab/raw-packet.js'), ...args]);
}

/** Counts what arrives and matches, whatever the receiver makes of it. */
async function count(at: Place, match: readonly string[]): Promise<() => Promise<number>> {
  await at.exec('iptables-nft', ['-I', 'INPUT', ...match, '-j', 'DROP']);
  return async () => {
    const rules = await at.exec('iptables-nft', ['-nvxL', 'INPUT']);
    return Number(/^ *(\d+) .* DROP /m.exec(rules)![1]);
  };
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`with iptables-${variant}`, () => {
    // The kernel tracks and translates SCTP even where it has no sockets of that kind.
    test('an SCTP association is sent on to an endpoint, at its port, and its flow goes with the endpoint', async () => {
      await withServiceLab({ nodes: 2, variant }, async (services) => {
        const [node1] = services.lab.nodes as [LabNode, LabNode];
        const a = await services.addPod(node1, 'a');
        const b = await services.addPod(node1, 'b');
        const caller = await services.addPod(node1, 'caller');
        const arrived = new Map<Place, () => Promise<number>>();
        for (const pod of [a, b]) arrived.set(pod, await count(pod, ['-p', 'sctp', '--dport', '7000']));
        const write = (pod: Place): void =>
          services.write(
            'sig.yaml',
            serviceObject('core/sig', {
              clusterIP,
              ports: [
                { name: 's', port: 3868, protocol: 'SCTP' },
                { name: 't', port: 3868, protocol: 'TCP' },
              ],
            }),
            sliceObject(
              'core/sig',
              [
                { name: 's', port: 7000, protocol: 'SCTP' },
                { name: 't', port: 7001, protocol: 'TCP' },
              ],
              [{ ip: pod.ipv4, node: 'node1' }],
            ),
          );
        write(a);
        await services.startProxies([`--cluster-cidr=${podNetwork.ipv4}`]);
        await send(caller, 'sctp', clusterIP, '3868');
        await services.lab.waitFor('the packet at a', async () => (await arrived.get(a)!()) === 1);
        write(b);
        // From the same port: an entry of connection tracking that still leads to a would take it there.
        await services.lab.waitFor('a packet at b', async () => {
          await send(caller, 'sctp', clusterIP, '3868');
          return (await arrived.get(b)!()) > 0;
        });
      });
    });

    test('packets that belong to no connection are dropped, unless connection tracking is told to be liberal', async () => {
      await withServiceLab({ nodes: 2, variant }, async (services) => {
        const [node1, node2] = services.lab.nodes as [LabNode, LabNode];
        const target = await services.addPod(node2, 'target');
        const caller = await services.addPod(node1, 'caller');
        const arrived = await count(target, ['-p', 'tcp', '--tcp-flags', 'RST', 'RST']);
        const reset = (): Promise<string> => send(caller, 'rst', target.ipv4, '8080', caller.ipv4);
        await reset();
        await services.lab.waitFor('it to arrive without a proxy', async () => (await arrived()) === 1);
        await services.startProxies();
        await reset();
        await services.lab.waitFor('it to be dropped', async () =>
          /^ *1 .* DROP .*ctstate INVALID/m.test(
            await node1.exec(`iptables-${variant}`, ['-nvxL', 'KUBE-FORWARD']),
          ),
        );
        const metrics = await services.get(node1, 10_249, '/metrics');
        assert.match(metrics, /^kubeproxy_iptables_ct_state_invalid_dropped_packets_total 1$/m);
        assert.equal(await arrived(), 1);
        for (const node of [node1, node2]) {
          await node.proxy!.stop();
          node.namespace.sysctl({ 'net/netfilter/nf_conntrack_tcp_be_liberal': '1' });
        }
        await services.startProxies();
        await reset();
        await services.lab.waitFor('it to arrive', async () => (await arrived()) === 2);
      });
    });
  });
}
