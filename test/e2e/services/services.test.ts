import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Place } from '../../lab/place.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { podNetwork, type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';

const http = [
  { name: 'http', port: 8080, protocol: 'TCP' },
  { name: 'http-udp', port: 8080, protocol: 'UDP' },
];
const clusterIP = '10.96.0.10';
const web = serviceObject('shop/web', {
  type: 'NodePort',
  clusterIP,
  ports: [
    { name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 },
    { name: 'http-udp', port: 80, protocol: 'UDP', nodePort: 30_080 },
  ],
});

function slice(...pods: readonly (readonly [Place, string])[]): Record<string, unknown> {
  return sliceObject(
    'shop/web',
    http,
    pods.map(([pod, node]) => ({ ip: pod.ipv4, node })),
  );
}

/** Asks so often that one of two is missed by chance less than once in 10^11 times. */
async function names(
  from: Place,
  target: Parameters<Place['probe']['ask']>[0],
  times = 40,
): Promise<Set<string>> {
  const answers = new Set<string>();
  for (let count = 0; count < times; count++) answers.add((await from.probe.ask(target)).server);
  return answers;
}

async function answersOnly(services: ServiceLab, from: Place, expected: readonly string[]): Promise<void> {
  await services.lab.waitFor(`answers from ${expected.join(', ')} only`, async () => {
    const found = await names(from, { protocol: 'tcp', address: clusterIP, port: 80, timeoutMs: 500 }, 12);
    return [...found].sort().join() === [...expected].sort().join();
  });
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`twill proxy with iptables-${variant}`, () => {
    test('serves ClusterIP and NodePort over TCP and UDP from pods, nodes and outside', async () => {
      await withServiceLab({ nodes: 3, variant }, async (services) => {
        const { lab } = services;
        const [node1, node2, node3] = lab.nodes as [
          (typeof lab.nodes)[0],
          (typeof lab.nodes)[0],
          (typeof lab.nodes)[0],
        ];
        const a = await services.addServer(node1, 'a');
        const b = await services.addServer(node2, 'b');
        const caller = await services.addPod(node1, 'caller');
        services.write('web.yaml', web, slice([a, 'node1'], [b, 'node2']));
        await services.startProxies([`--cluster-cidr=${podNetwork.ipv4}`]);

        for (const protocol of ['tcp', 'udp'] as const) {
          const vip = { protocol, address: clusterIP, port: 80 };
          assert.deepEqual(await names(caller, vip), new Set(['a', 'b']), `${protocol} from a pod`);
          assert.deepEqual(
            await names(node3, vip),
            new Set(['a', 'b']),
            `${protocol} from a node without endpoint`,
          );
          assert.deepEqual(
            await names(a, vip),
            new Set(['a', 'b']),
            `${protocol} from an endpoint, itself included`,
          );
          // node3 runs none of the endpoints.
          const nodePort = { protocol, address: node3.ipv4, port: 30_080 };
          assert.deepEqual(
            await names(lab.client, nodePort),
            new Set(['a', 'b']),
            `${protocol} from outside`,
          );
        }
        const seen = await caller.probe.ask({ protocol: 'tcp', address: clusterIP, port: 80 });
        assert.equal(seen.client, caller.ipv4, 'a pod is not masqueraded');
      });
    });

    test('follows its files: changed, removed, bad, and back again', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const { lab } = services;
        const node = lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const b = await services.addServer(node, 'b');
        const caller = await services.addPod(node, 'caller');
        services.write('web.yaml', web);
        services.write('web-endpoints.yaml', slice([a, 'node1']));
        await services.startProxies([`--cluster-cidr=${podNetwork.ipv4}`]);
        await answersOnly(services, caller, ['a']);

        services.write('web-endpoints.yaml', slice([b, 'node1']));
        await answersOnly(services, caller, ['b']);

        lab.removeManifest('web-endpoints.yaml');
        await lab.waitFor('a refusal', async () => {
          const answer = caller.probe.ask({ protocol: 'tcp', address: clusterIP, port: 80, timeoutMs: 500 });
          return answer.then(
            () => false,
            (error: Error) => /ECONNREFUSED/.test(error.message),
          );
        });

        const bad = serviceObject('shop/bad', { clusterIP: '10.96.0.66', ports: [{ port: 99_999 }] });
        services.write('bad.yaml', bad);
        services.write('broken.yaml', slice([a, 'node1']));
        lab.writeManifest('aaa.yaml', 'kind: Service\nmetadata: [\n');
        await answersOnly(services, caller, ['a']);
        await lab.waitFor('the log to name file and field', () =>
          /left out.*bad\.yaml.*shop\/bad.*spec\.ports\[0\]\.port.*99999/.test(node.proxy!.log()),
        );
        assert.match(node.proxy!.log(), /left out.*aaa\.yaml.*document 1/);
        assert.match(
          await services.get(node, 10_249, '/metrics'),
          /^twill_proxy_objects_skipped_total [2-9]/m,
        );
      });
    });

    test('leaves the rules standing when it ends, and takes them over when it starts', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const caller = await services.addPod(node, 'caller');
        services.write('web.yaml', web, slice([a, 'node1']));
        await services.startProxies();
        const rules = async (): Promise<string> =>
          (await node.exec(`iptables-${variant}-save`, [])).replace(/^#.*$|\[\d+:\d+\]/gm, '');
        const before = await rules();
        await node.proxy!.stop();
        assert.equal(node.proxy!.exitCode, 0);
        assert.equal(await rules(), before);
        assert.equal((await caller.probe.ask({ protocol: 'tcp', address: clusterIP, port: 80 })).server, 'a');
        await services.startProxy(node);
        assert.equal(await rules(), before);
      });
    });
  });
}
