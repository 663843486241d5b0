import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { LabNode } from '../../lab/node.ts';
import { servicePort } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { podNetwork, withServiceLab } from '../../lab/service-lab.ts';

const rawPacket = join(import.meta.dirname, '../../lab/raw-packet.js');

for (const variant of ['nft', 'legacy'] as const) {
  test(`a pod of which no slice says where it is reaches itself, though FORWARD drops: iptables-${variant}`, () =>
    withServiceLab({ nodes: 1, variant }, async (services) => {
      const node = services.lab.nodes[0]!;
      const pod = await services.addServer(node, 'self');
      const service = serviceObject('shop/web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
      services.write(
        'web.yaml',
        service,
        sliceObject('shop/web', [{ port: servicePort }], [{ ip: pod.ipv4 }]),
      );
      await node.exec(`iptables-${variant}`, ['-P', 'FORWARD', 'DROP']);
      // Bridged packets are forwarded ones, too, where br_netfilter is loaded.
      await services.startProxy(node);
      const answer = await services.lab.waitFor('an answer', () =>
        pod.probe.ask({ protocol: 'tcp', address: '10.96.0.10', port: 80 }),
      );
      assert.equal(answer.server, 'self');
    }));

  test(`a pod of another node that sends to a cluster address here, and is sent to itself: iptables-${variant}`, () =>
    withServiceLab({ nodes: 2, variant }, async (services) => {
      const [here, other] = services.lab.nodes as [LabNode, LabNode];
      const pod = await services.addServer(other, 'self');
      // No proxy runs there: it sends what is for Services to the node where one does.
      await other.namespace.ip(`route add 10.96.0.0/16 via ${here.ipv4}`);
      services.write(
        'web.yaml',
        serviceObject('shop/web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] }),
        sliceObject('shop/web', [{ port: servicePort }], [{ ip: pod.ipv4, node: other.name }]),
      );
      await services.startProxy(here, [`--cluster-cidr=${podNetwork.ipv4}`]);
      const answer = await services.lab.waitFor('an answer', () =>
        pod.probe.ask({ protocol: 'tcp', address: '10.96.0.10', port: 80 }),
      );
      assert.deepEqual(answer, { server: 'self', client: here.ipv4 });
    }));

  test(`UDP and SCTP of a Service that was deleted while the proxy was away is forgotten: iptables-${variant}`, () =>
    withServiceLab({ nodes: 1, variant }, async (services) => {
      const node = services.lab.nodes[0]!;
      const server = await services.addServer(node, 'server');
      const caller = await services.addPod(node, 'caller');
      const slice = sliceObject(
        'shop/dns',
        [
          { name: 'dns', port: servicePort, protocol: 'UDP' },
          { name: 'sig', port: servicePort, protocol: 'SCTP' },
        ],
        [{ ip: server.ipv4, node: 'node1' }],
      );
      const ports = [
        { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30_053 },
        { name: 'sig', port: 3868, protocol: 'SCTP' },
      ];
      services.write(
        'dns.yaml',
        serviceObject('shop/dns', { type: 'NodePort', clusterIP: '10.96.0.53', ports }),
        slice,
      );
      await services.startProxy(node);
      for (const [address, port] of [
        ['10.96.0.53', 53],
        [node.ipv4, 30_053],
      ] as const)
        await services.lab.waitFor('an answer', () => caller.probe.ask({ protocol: 'udp', address, port }));
      const flows = async (): Promise<string[]> =>
        (await node.exec('conntrack', ['-L']))
          .split('\n')
          .filter((line) => line.includes('dst=10.96.0.53 ') || line.includes('dport=30053 '));
      await caller.exec(process.execPath, [rawPacket, 'sctp', '10.96.0.53', '3868']);
      // One that is not answered lasts three seconds.
      await services.lab.waitFor('the association beside the others', async () => {
        const all = await flows();
        return all.length >= 3 && all.some((line) => line.startsWith('sctp'));
      });
      await node.proxy!.stop();
      services.write('dns.yaml');
      await services.startProxy(node);
      await services.lab.waitFor('the flows to go', async () => (await flows()).length === 0);
    }));
}
