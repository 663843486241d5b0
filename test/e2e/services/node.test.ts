import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { httpGet, type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';

const clusterIP = '10.96.0.10';
const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
const web = serviceObject('shop/web', {
  type: 'NodePort',
  clusterIP,
  trafficDistribution: 'PreferSameZone',
  ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 }],
});

function nodeObject(
  node: LabNode,
  zone: string,
  more: {
    readonly taints?: readonly object[];
    readonly addresses?: readonly string[];
    readonly podCIDRs?: readonly string[];
  } = {},
): Record<string, unknown> {
  const addresses = (more.addresses ?? []).map((address) => ({ type: 'InternalIP', address }));
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node.name, labels: { 'topology.kubernetes.io/zone': zone } },
    spec: { taints: more.taints ?? [], podCIDRs: more.podCIDRs ?? [] },
    status: { addresses },
  };
}

async function servers(from: Place, address: string, port: number, times = 16): Promise<string> {
  const names = new Set<string>();
  for (let asked = 0; asked < times; asked++) {
    names.add((await from.probe.ask({ protocol: 'tcp', address, port })).server);
  }
  return [...names].sort().join();
}

async function status(services: ServiceLab, node: LabNode, path: string): Promise<string> {
  return (await services.get(node, 10_256, path)).split(' ')[1]!;
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`with iptables-${variant}`, () => {
    test('traffic stays in the zone its hints name, as the Node manifests say where that is', async () => {
      await withServiceLab({ nodes: 2, variant }, async (services) => {
        const [node1, node2] = services.lab.nodes as [LabNode, LabNode];
        const a = await services.addServer(node1, 'a');
        const b = await services.addServer(node2, 'b');
        const [caller1, caller2] = [
          await services.addPod(node1, 'caller1'),
          await services.addPod(node2, 'caller2'),
        ];
        const slice = sliceObject('shop/web', ports, [
          { ip: a.ipv4, node: 'node1', zones: ['east'] },
          { ip: b.ipv4, node: 'node2', zones: ['west'] },
        ]);
        services.write('nodes.yaml', nodeObject(node1, 'east'), nodeObject(node2, 'west'));
        services.write('web.yaml', web, slice);
        await services.startProxies();
        assert.equal(await servers(caller1, clusterIP, 80), 'a');
        assert.equal(await servers(caller2, clusterIP, 80), 'b');
        // The node moves: its traffic follows, then goes anywhere, no endpoint being hinted to its zone.
        services.write('nodes.yaml', nodeObject(node1, 'west'), nodeObject(node2, 'north'));
        await services.lab.waitFor(
          'the hints of the new zones to count',
          async () =>
            (await servers(caller1, clusterIP, 80, 12)) === 'b' &&
            (await servers(caller2, clusterIP, 80, 12)) === 'a,b',
        );
      });
    });
  });
}

test('a node that will go is not healthy, but alive; node ports answer on its own address alone when told so', async () => {
  await withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const a = await services.addServer(node, 'a');
    services.write('web.yaml', web, sliceObject('shop/web', ports, [{ ip: a.ipv4, node: 'node1' }]));
    await node.startProxy(['--nodeport-addresses=primary']);
    await services.lab.waitFor('the proxy', async () => (await status(services, node, '/livez')) === '200');
    const fails = async (address: string): Promise<boolean> => {
      const ask = { protocol: 'tcp', address, port: 30_080, timeoutMs: 500 } as const;
      return node.probe.ask(ask).then(
        () => false,
        () => true,
      );
    };
    assert.equal(await status(services, node, '/readyz'), '503', 'no Node, no rules');
    const own = { addresses: [node.ipv4] };
    services.write('nodes.yaml', nodeObject(node, 'east', own));
    await services.ready(node);
    assert.equal(await servers(services.lab.client, node.ipv4, 30_080, 4), 'a');
    assert.ok(await fails('10.244.1.1'), 'the bridge’s address');
    assert.equal(await status(services, node, '/healthz'), '200');
    const taints = [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }];
    services.write('nodes.yaml', nodeObject(node, 'east', { ...own, taints }));
    await services.lab.waitFor(
      'the proxy to turn traffic away',
      async () => (await status(services, node, '/healthz')) === '503',
    );
    assert.match(await services.get(node, 10_256, '/healthz'), /"nodeEligible":false/);
    assert.equal(await status(services, node, '/livez'), '200');
    assert.equal(await status(services, node, '/readyz'), '200');
  });
});

test('with --detect-local-mode=NodeCIDR pods in the podCIDRs of the Node keep their address, others are masqueraded', async () => {
  await withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const a = await services.addServer(node, 'a');
    const caller = await services.addPod(node, 'caller');
    services.write('web.yaml', web, sliceObject('shop/web', ports, [{ ip: a.ipv4, node: 'node1' }]));
    services.write('nodes.yaml', nodeObject(node, 'east'));
    await node.startProxy(['--detect-local-mode=NodeCIDR']);
    await services.lab.waitFor('the proxy to say what it waits for', async () =>
      /503[\s\S]*waiting for podCIDRs of the Node 'node1'/.test(await services.get(node, 10_256, '/readyz')),
    );
    const source = async (timeoutMs = 10_000): Promise<string> => {
      const ask = { protocol: 'tcp', address: clusterIP, port: 80, timeoutMs } as const;
      return (await caller.probe.ask(ask)).client.replace('::ffff:', '');
    };
    await assert.rejects(source(500), 'no rules yet');
    services.write(
      'nodes.yaml',
      nodeObject(node, 'east', { podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] }),
    );
    await services.ready(node);
    assert.equal(await source(), caller.ipv4);
    // The node's pods are elsewhere now: this one is not known as a pod any more.
    services.write('nodes.yaml', nodeObject(node, 'east', { podCIDRs: ['10.244.9.0/24'] }));
    await services.lab.waitFor('the other network to count', async () => (await source()) === '10.244.1.1');
    // Without a Node the last networks stay.
    services.write('nodes.yaml', nodeObject(node, 'east', { podCIDRs: ['10.244.1.0/25'] }));
    await services.lab.waitFor('the first network to count', async () => (await source()) === caller.ipv4);
    services.write('nodes.yaml');
    services.write(
      'marker.yaml',
      serviceObject('shop/marker', { clusterIP: '10.96.0.99', ports: [{ port: 1 }] }),
    );
    await services.lab.waitFor('the manifests to be read', async () =>
      (await node.exec('iptables-nft-save', [])).includes('10.96.0.99'),
    );
    assert.equal(await source(), caller.ipv4);
  });
});

test('health check ports are served on the addresses that serve node ports, also on one that comes later', async () => {
  await withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const a = await services.addServer(node, 'a');
    const balanced = serviceObject('shop/web', {
      ...(web.spec as object),
      type: 'LoadBalancer',
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 32_000,
    });
    services.write('web.yaml', balanced, sliceObject('shop/web', ports, [{ ip: a.ipv4, node: 'node1' }]));
    const networks = [`${node.ipv4}/32`, '192.0.2.128/25', `${node.ipv6}/128`];
    await services.startProxy(node, [`--nodeport-addresses=${networks}`]);
    const answers = (address: string): Promise<boolean> =>
      httpGet(node, address, 32_000, '/').then(
        (answer) => /^HTTP\/1.1 200[\s\S]*"localEndpoints":1/.test(answer),
        () => false,
      );
    await services.lab.waitFor('an answer', () => answers(node.ipv4));
    // The Service has no IPv6.
    assert.equal(await answers(node.ipv6), false);
    assert.equal(await answers('127.0.0.1'), false);
    assert.equal(await answers('10.244.1.1'), false);
    await node.namespace.ip('address add 192.0.2.200/24 dev eth0');
    await services.lab.waitFor('an answer at the new address', () => answers('192.0.2.200'));
    // A device without carrier keeps its addresses.
    await node.namespace.ip(
      'link add without type veth peer name carrier',
      'link set without up',
      'address add 192.0.2.201/32 dev without',
    );
    await services.lab.waitFor('an answer where there is no carrier', () => answers('192.0.2.201'));
  });
});
