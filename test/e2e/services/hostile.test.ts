import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { withServiceLab } from '../../lab/service-lab.ts';

const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
const injection = 'x"\n-A INPUT -j EVIL\nCOMMIT\n*nat\n"';
const long = 'a'.repeat(10_000);

function service(
  name: string,
  spec: Record<string, unknown>,
  metadata: Record<string, unknown> = {},
): ApiObject {
  return serviceObject(
    `shop/${name}`,
    { ports: [{ name: 'http', port: 80 }], ...spec },
    { metadata },
  ) as unknown as ApiObject;
}

function slice(name: string, ...ips: readonly string[]): ApiObject {
  const endpoints = ips.map((ip) => ({ ip, node: injection }));
  const raw = sliceObject(`shop/${name}`, ports, endpoints);
  return { ...raw, addressType: 'IPv4' } as unknown as ApiObject;
}

/** Each is skipped, whole or in part, and named by the second text in the log. */
const hostile: readonly (readonly [ApiObject, RegExp])[] = [
  [service(injection, { clusterIP: '10.96.1.1' }), /Service shop\/x"\?-A INPUT.*metadata\.name/],
  [service(long, { clusterIP: '10.96.1.2' }), /Service shop\/aaaa.*metadata\.name/],
  [service('addr', { clusterIP: `10.96.1.3 ${injection}` }), /Service shop\/addr.*spec\.clusterIPs\[0\]/],
  [
    service('port', { clusterIP: '10.96.1.4', ports: [{ port: 70_000 }] }),
    /Service shop\/port.*spec\.ports\[0\]\.port: 70000/,
  ],
  [
    service('portname', { clusterIP: '10.96.1.5', ports: [{ port: 1, name: injection }] }),
    /Service shop\/portname.*spec\.ports\[0\]\.name/,
  ],
  [
    service('proto', { clusterIP: '10.96.1.6', ports: [{ port: 1, protocol: injection }] }),
    /Service shop\/proto.*protocol/,
  ],
  [
    service('ranges', {
      clusterIP: '10.96.1.7',
      type: 'LoadBalancer',
      loadBalancerSourceRanges: [injection],
    }),
    /Service shop\/ranges.*loadBalancerSourceRanges/,
  ],
  [
    service('affinity', {
      clusterIP: '10.96.1.8',
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: '1 -j EVIL' } },
    }),
    /Service shop\/affinity.*timeoutSeconds/,
  ],
  [
    slice('web', '127.0.0.1', '169.254.1.1', 'fd00::1', injection),
    /EndpointSlice shop\/web-abc.*endpoints\[0\]\.addresses\[0\]/,
  ],
];

for (const variant of ['nft', 'legacy'] as const) {
  describe(`with iptables-${variant}`, () => {
    test('hostile objects are named and counted, nothing of them is in a rule, the others are served', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const caller = await services.addPod(node, 'caller');
        const api = await NamespacedKubeApi.start(node.namespace);
        const metadata = { labels: { [injection]: long }, annotations: { [long]: injection } };
        const good = [
          service('good', { clusterIP: '10.96.0.10' }, metadata),
          sliceObject('shop/good', ports, [{ ip: a.ipv4, node: 'node1' }]) as unknown as ApiObject,
        ];
        api.send({ put: [...hostile.map(([object]) => object), ...good] });
        await services.startProxy(node, ['--manifests=', `--master=${api.url}`, '--log-format=json']);
        const answer = await caller.probe.ask({ protocol: 'tcp', address: '10.96.0.10', port: 80 });
        assert.equal(answer.server, 'a');
        const rules = await node.exec(`iptables-${variant}-save`, []);
        assert.doesNotMatch(rules, /EVIL|aaaa|127\.0\.0\.1:|169\.254/);
        const log = node.proxy!.log().replaceAll('\\"', '"');
        for (const [, named] of hostile) assert.match(log, named);
        const counted = Number(
          /objects_skipped_total (\d+)/.exec(await services.get(node, 10_249, '/metrics'))![1],
        );
        assert.ok(counted >= hostile.length + 3, `${counted} counted`);
      });
    });

    test('a Service with 10,000 endpoints is served, and its next change too', async () => {
      await withServiceLab({ nodes: 1, variant }, async (services) => {
        const node = services.lab.nodes[0]!;
        const a = await services.addServer(node, 'a');
        const caller = await services.addPod(node, 'caller');
        const api = await NamespacedKubeApi.start(node.namespace);
        const many = Array.from(
          { length: 10_000 },
          (_, index) => `10.${200 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
        );
        const small = sliceObject('shop/small', ports, [
          { ip: a.ipv4, node: 'node1' },
        ]) as unknown as ApiObject;
        api.send({
          put: [
            service('big', { clusterIP: '10.96.0.20' }),
            slice('big', ...many),
            service('small', { clusterIP: '10.96.0.10' }),
            small,
          ],
        });
        await services.startProxy(node, ['--manifests=', `--master=${api.url}`]);
        const count = async (): Promise<number> =>
          (await node.exec(`iptables-${variant}-save`, ['-t', 'nat'])).match(
            /-j DNAT --to-destination 10\.200\./g,
          )?.length ?? 0;
        assert.equal(await count(), 10_000);
        assert.equal(
          (await caller.probe.ask({ protocol: 'tcp', address: '10.96.0.10', port: 80 })).server,
          'a',
        );
        api.send({ put: [slice('big', ...many.slice(1))] });
        await services.lab.waitFor('one endpoint less', async () => (await count()) === 9999);
      });
    });
  });
}
