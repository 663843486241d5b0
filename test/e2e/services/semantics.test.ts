import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import type { LabNode } from '../../lab/node.ts';
import type { Place } from '../../lab/place.ts';
import { type EndpointSpec, serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import {
  httpGet,
  kindName,
  modeFlags,
  podNetwork,
  type RulesKind,
  rulesKinds,
  type ServiceLab,
  withServiceLab,
} from '../../lab/service-lab.ts';

const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];
const spec = { clusterIP: '10.96.0.10', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] };
const nodePortSpec = {
  ...spec,
  type: 'NodePort',
  ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 }],
};

interface Cluster {
  readonly kind: RulesKind;
  readonly services: ServiceLab;
  readonly node1: LabNode;
  readonly node2: LabNode;
  /** Serves on node1, and on node2. */
  readonly a: Place;
  readonly b: Place;
  /** Serve nothing. */
  readonly caller1: Place;
  readonly caller2: Place;
  readonly client: Place;
}

async function withCluster(kind: RulesKind, work: (cluster: Cluster) => Promise<void>): Promise<void> {
  await withServiceLab({ nodes: 2, variant: kind }, async (services) => {
    const [node1, node2] = services.lab.nodes as [LabNode, LabNode];
    await services.lab.underlay.ip(`route add 203.0.113.0/24 via ${node2.ipv4}`);
    await work({
      kind,
      services,
      node1,
      node2,
      a: await services.addServer(node1, 'a'),
      b: await services.addServer(node2, 'b'),
      caller1: await services.addPod(node1, 'caller1'),
      caller2: await services.addPod(node2, 'caller2'),
      client: services.lab.client,
    });
  });
}

/** Whether the rules know a cluster address. */
async function hasAddress(node: LabNode, family: Family, kind: RulesKind, address: string): Promise<boolean> {
  if (kind !== 'nftables')
    return (await node.exec(`${family.iptables}-${kind}-save`, [])).includes(`-d ${address}/`);
  const listed = await node.namespace.run('nft', ['list', 'set', family.nft, tableName, 'cluster-ips']);
  return new RegExp(`[ ,]${address}[ ,]`).test(listed.stdout);
}

let revision = 0;

/** Writes the Service with its endpoints and waits until both proxies have it in their rules. */
async function serve(
  { kind, services, node1, node2 }: Cluster,
  service: Record<string, unknown>,
  endpoints: readonly EndpointSpec[],
): Promise<void> {
  revision++;
  // A second Service comes with it: once its rule stands, so do the others of the same write.
  const marker = {
    ipv4: `10.97.${revision >> 8}.${revision & 255}`,
    ipv6: `fd00:97::${revision.toString(16)}`,
  };
  const other = serviceObject('shop/marker', { clusterIPs: Object.values(marker), ports: [{ port: 1 }] });
  services.write('web.yaml', service, sliceObject('shop/web', ports, endpoints), other);
  for (const node of [node1, node2]) {
    for (const family of [ipv4, ipv6]) {
      await services.lab.waitFor(`the rules of ${node.name}`, () =>
        hasAddress(node, family, kind, marker[family.name]),
      );
    }
  }
}

/** Asks so often that one of two is missed by chance less than once in 10^11 times. */
async function servers(from: Place, address: string, port = 80, times = 40): Promise<string> {
  const names = new Set<string>();
  for (let count = 0; count < times; count++) {
    names.add((await from.probe.ask({ protocol: 'tcp', address, port })).server);
  }
  return [...names].sort().join();
}

async function source(from: Place, address: string, port = 80): Promise<string> {
  return (await from.probe.ask({ protocol: 'tcp', address, port })).client.replace('::ffff:', '');
}

/** A refusal comes at once, but for what else the machine does. */
const refusalMs = 15_000;

/** Why a connection fails; a refusal is `ECONNREFUSED`, a drop runs into the time limit. */
async function failure(
  from: Place,
  address: string,
  port = 80,
  timeoutMs = 700,
): Promise<'refused' | 'dropped' | string> {
  try {
    const { server } = await from.probe.ask({ protocol: 'tcp', address, port, timeoutMs });
    return `answered by ${server}`;
  } catch (error) {
    return /ECONNREFUSED/.test((error as Error).message) ? 'refused' : 'dropped';
  }
}

for (const kind of rulesKinds) {
  describe(`with ${kindName(kind)}`, () => {
    test('traffic policies, sources and addresses are those of Kubernetes', async () => {
      await withCluster(kind, async (cluster) => {
        const { services, node1, node2, a, b, caller1, caller2, client } = cluster;
        const both: EndpointSpec[] = [
          { ip: a.ipv4, node: 'node1' },
          { ip: b.ipv4, node: 'node2' },
        ];
        await services.startProxies([...modeFlags(kind), `--cluster-cidr=${podNetwork.ipv4}`]);

        await serve(
          cluster,
          serviceObject('shop/web', { ...nodePortSpec, externalIPs: ['203.0.113.77'] }),
          both,
        );
        assert.equal(await servers(client, '203.0.113.77'), 'a,b', 'external address');
        if (kind !== 'nftables')
          assert.equal(await servers(node1, '127.0.0.1', 30_080), 'a,b', 'node port on loopback');
        assert.equal(await source(caller1, spec.clusterIP), caller1.ipv4, 'a pod keeps its address');
        assert.notEqual(await source(client, node2.ipv4, 30_080), client.ipv4, 'policy Cluster masquerades');

        await serve(
          cluster,
          serviceObject('shop/web', {
            ...nodePortSpec,
            externalTrafficPolicy: 'Local',
            healthCheckNodePort: 32_000,
            type: 'LoadBalancer',
          }),
          both.slice(0, 1),
        );
        assert.equal(await source(client, node1.ipv4, 30_080), client.ipv4, 'policy Local keeps the source');
        assert.equal(await failure(client, node2.ipv4, 30_080), 'dropped', 'a node without endpoint');
        assert.equal(await servers(caller2, node2.ipv4, 30_080), 'a', 'a pod is served whatever the policy');
        assert.equal(await servers(node2, node2.ipv4, 30_080), 'a', 'a node is served whatever the policy');
        assert.match(
          await httpGet(node1, node1.ipv4, 32_000, '/'),
          /^HTTP\/1.1 200[\s\S]*"localEndpoints":1/,
        );
        assert.match(
          await httpGet(node2, node2.ipv4, 32_000, '/'),
          /^HTTP\/1.1 503[\s\S]*"localEndpoints":0/,
        );

        const draining = { ready: false, serving: true, terminating: true };
        await serve(cluster, serviceObject('shop/web', { ...nodePortSpec, externalTrafficPolicy: 'Local' }), [
          { ...both[0]!, ...draining },
          both[1]!,
        ]);
        assert.equal(await servers(client, node1.ipv4, 30_080), 'a', 'the last local endpoint drains');
        assert.equal(await servers(caller1, spec.clusterIP), 'b', 'others are ready');

        await serve(
          cluster,
          serviceObject('shop/web', { ...spec, internalTrafficPolicy: 'Local' }),
          both.slice(0, 1),
        );
        assert.equal(await servers(caller1, spec.clusterIP), 'a', 'internal Local');
        assert.equal(await failure(caller2, spec.clusterIP), 'dropped', 'internal Local without endpoint');

        const hinted = both.map((endpoint) => ({ ...endpoint, hintNodes: [endpoint.node!] }));
        await serve(
          cluster,
          serviceObject('shop/web', { ...spec, trafficDistribution: 'PreferSameNode' }),
          hinted,
        );
        assert.equal(await servers(caller1, spec.clusterIP), 'a', 'hinted to node1');
        assert.equal(await servers(caller2, spec.clusterIP), 'b', 'hinted to node2');

        const status = { status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } } };
        const balanced = (ranges: string[]): Record<string, unknown> =>
          serviceObject(
            'shop/web',
            { ...nodePortSpec, type: 'LoadBalancer', loadBalancerSourceRanges: ranges },
            status,
          );
        await serve(cluster, balanced(['198.51.100.0/24']), both);
        assert.equal(await servers(client, '203.0.113.9'), 'a,b', 'within the source ranges');
        await serve(cluster, balanced(['198.51.101.0/24']), both);
        assert.equal(await failure(client, '203.0.113.9'), 'dropped', 'outside the source ranges');

        await serve(cluster, serviceObject('shop/web', spec), []);
        assert.equal(
          await failure(caller1, spec.clusterIP, 80, refusalMs),
          'refused',
          'no endpoints, from a pod',
        );
        assert.equal(
          await failure(node1, spec.clusterIP, 80, refusalMs),
          'refused',
          'no endpoints, from a node',
        );
      });
    });

    test('a node that is an endpoint itself reaches itself through the Service, and as itself without it', async () => {
      await withCluster(kind, async (cluster) => {
        const { services, node1, client } = cluster;
        await node1.serve();
        await services.startProxies([...modeFlags(kind), `--cluster-cidr=${podNetwork.ipv4}`]);
        await serve(cluster, serviceObject('shop/web', nodePortSpec), [{ ip: node1.ipv4, node: 'node1' }]);
        assert.equal(await servers(node1, spec.clusterIP), 'node1');
        assert.equal(await servers(client, node1.ipv4, 30_080), 'node1');
        const masqueraded = async (): Promise<number> => {
          if (kind === 'nftables') return Number.NaN;
          const rules = await node1.exec(`iptables-${kind}-save`, ['-c', '-t', 'nat']);
          return Number(/\[(\d+):\d+\] -A KUBE-HAIRPIN .*-j MASQUERADE/.exec(rules)?.[1]);
        };
        const before = await masqueraded();
        assert.ok(kind === 'nftables' || before > 0);
        assert.equal(await source(node1, node1.ipv4, 8080), node1.ipv4);
        assert.equal(await masqueraded(), before);
      });
    });

    test('session affinity holds, and forgets an endpoint that is not ready', async () => {
      await withCluster(kind, async (cluster) => {
        const { services, a, b, caller1 } = cluster;
        const affine = serviceObject('shop/web', { ...spec, sessionAffinity: 'ClientIP' });
        const of = (pod: Place, node: string): EndpointSpec => ({ ip: pod.ipv4, node });
        await services.startProxies([...modeFlags(kind), `--cluster-cidr=${podNetwork.ipv4}`]);
        await serve(cluster, affine, [of(a, 'node1'), of(b, 'node2')]);
        const first = await servers(caller1, spec.clusterIP, 80, 24);
        assert.match(first, /^[ab]$/, 'one client, one endpoint');
        // Another endpoint comes, the chain is written anew: the client stays where it is.
        await serve(cluster, affine, [of(a, 'node1'), of(b, 'node2'), { ip: '10.244.2.99', node: 'node2' }]);
        assert.equal(await servers(caller1, spec.clusterIP, 80, 12), first);
        const [stays, goes] =
          first === 'a' ? [of(b, 'node2'), of(a, 'node1')] : [of(a, 'node1'), of(b, 'node2')];
        await serve(cluster, affine, [stays, { ...goes, ready: false }]);
        assert.equal(await servers(caller1, spec.clusterIP, 80, 12), first === 'a' ? 'b' : 'a');
      });
    });

    test('IPv6 is served like IPv4', async () => {
      await withCluster(kind, async (cluster) => {
        const { services, node2, a, b, caller1, client } = cluster;
        const dual = serviceObject('shop/web', { ...nodePortSpec, clusterIPs: ['10.96.0.10', 'fd00:96::a'] });
        await services.startProxies([
          ...modeFlags(kind),
          `--cluster-cidr=${podNetwork.ipv4},${podNetwork.ipv6}`,
        ]);
        services.write(
          'six.yaml',
          sliceObject('shop/web/six', ports, [
            { ip: a.ipv6, node: 'node1' },
            { ip: b.ipv6, node: 'node2' },
          ]),
        );
        await serve(cluster, dual, [{ ip: a.ipv4, node: 'node1' }]);
        // Link-local addresses of fresh interfaces are tentative for a second or two (RFC 4862): until then no neighbour
        // is found.
        for (const pod of [a, b])
          await services.lab.waitFor(`IPv6 to ${pod.ipv6}`, async () =>
            (await failure(caller1, pod.ipv6, 8080)).startsWith('answered'),
          );
        assert.equal(await servers(caller1, 'fd00:96::a'), 'a,b', 'from a pod');
        assert.equal(await servers(node2, 'fd00:96::a'), 'a,b', 'from a node');
        assert.equal(await servers(a, 'fd00:96::a'), 'a,b', 'from an endpoint, itself included');
        assert.equal(await servers(client, node2.ipv6, 30_080), 'a,b', 'a node port');
        assert.equal(await source(caller1, 'fd00:96::a'), caller1.ipv6);
        assert.equal(await servers(caller1, '10.96.0.10'), 'a', 'IPv4 beside it');
      });
    });
  });
}

test('--masquerade-all and --nodeport-addresses do what they say', async () => {
  await withCluster('nft', async (cluster) => {
    const { services, node1, node2, b, caller1, client } = cluster;
    const network = `${node1.ipv4}/32`;
    await services.startProxy(node1, [
      '--masquerade-all',
      `--nodeport-addresses=${network}`,
      '--cluster-cidr=',
    ]);
    await services.startProxy(node2);
    await serve(cluster, serviceObject('shop/web', nodePortSpec), [{ ip: b.ipv4, node: 'node2' }]);
    assert.notEqual(await source(caller1, spec.clusterIP), caller1.ipv4);
    assert.equal(await servers(client, node1.ipv4, 30_080), 'b');
    assert.equal(await failure(caller1, '10.244.1.1', 30_080, refusalMs), 'refused');
    // An address that comes later, and is within the networks given, serves soon after.
    await node2.proxy!.stop();
    await services.startProxy(node2, ['--nodeport-addresses=192.0.2.128/25']);
    await services.lab.waitFor(
      'the other address to be left out',
      async () => (await failure(client, node2.ipv4, 30_080)) === 'refused',
    );
    await node2.namespace.ip('address add 192.0.2.200/24 dev eth0');
    await services.lab.waitFor(
      'the new address to serve',
      async () => (await servers(client, '192.0.2.200', 30_080, 1)) === 'b',
    );
  });
});
