import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { httpAnswer, httpStatus, sendRaw } from '../../lab/http.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { type Running, startProxy } from '../../lab/proxy-process.ts';
import { waitFor } from '../../lab/wait.ts';

async function withProxy(
  flags: readonly string[],
  work: (node: Namespace, proxy: Running) => Promise<void>,
  services?: string,
): Promise<void> {
  await withNamespace('servers', async (node) => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-servers-'));
    try {
      if (services !== undefined) writeFileSync(join(directory, 'services.yaml'), services);
      const proxy = startProxy(node, [`--manifests=${directory}`, ...flags]);
      await waitFor('rules', () => /rules in sync/.test(proxy.text()), { explain: proxy.text });
      await work(node, proxy);
      proxy.child.kill();
      await once(proxy.child, 'exit');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

/** The object in an answer, which comes in chunks. */
const object = (answer: string) => JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1));

async function statusAt(node: Namespace, url: string): Promise<string> {
  const script = `fetch(process.argv[1]).then((r) => console.log(r.status), (e) => console.log(e.cause.code))`;
  return (await node.exec(process.execPath, ['-e', script, url])).trim();
}

describe('an address means', () => {
  const rows: readonly [flag: string, v4: string, v6: string][] = [
    ['0.0.0.0:7000', '200', '200'],
    ['0.0.0.0', '200', '200'],
    [':7000', '200', '200'],
    ['[::]:7000', '200', '200'],
    ['127.0.0.1:7000', '200', 'ECONNREFUSED'],
    ['::1', 'ECONNREFUSED', '200'],
  ];
  for (const [flag, v4, v6] of rows) {
    test(`${flag}: ${v4} over IPv4, ${v6} over IPv6`, async () => {
      const port = flag.includes('7000') ? 7000 : 10_256;
      await withProxy([`--healthz-bind-address=${flag}`], async (node) => {
        assert.equal(await statusAt(node, `http://127.0.0.1:${port}/healthz`), v4);
        assert.equal(await statusAt(node, `http://[::1]:${port}/livez`), v6);
      });
    });
  }
});

test('health, configuration, flags and status are shown as kube-proxy shows them', async () => {
  await withProxy(['--cluster-cidr=10.244.0.0/16', '--conntrack-min=5'], async (node) => {
    const health = await httpAnswer(node, 10_256, '/healthz');
    assert.match(health, /^content-type: application\/json\r\nx-content-type-options: nosniff\r$/im);
    const { lastError, currentTime, lastUpdated, status, ...rest } = object(health);
    assert.deepEqual(rest, { nodeEligible: true, healthy: true });
    assert.deepEqual(Object.keys(status), ['IPv4', 'IPv6']);
    assert.equal(status.IPv4.healthy, true);
    assert.equal(lastUpdated, currentTime);
    assert.equal(lastError, null);
    assert.equal(object(await httpAnswer(node, 10_256, '/livez')).nodeEligible, undefined);
    const mode = await httpAnswer(node, 10_249, '/proxyMode');
    assert.match(mode, /nosniff/);
    assert.match(mode, /\r\niptables\r\n/);
    const configz = object(await httpAnswer(node, 10_249, '/configz'));
    assert.equal(configz['kubeproxy.config.k8s.io'].conntrack.min, 5);
    assert.equal(configz['kubeproxy.config.k8s.io'].clusterCIDR, '10.244.0.0/16');
    assert.match(await httpAnswer(node, 10_249, '/flagz'), /^cluster-cidr=10\.244\.0\.0\/16$/m);
    assert.match(
      await httpAnswer(node, 10_249, '/statusz'),
      /^Paths: \/configz \/flagz \/healthz \/healthz\/ping \/metrics \/metrics\/slis \/proxyMode \/statusz$/m,
    );
    const accept = 'Accept: application/json;v=v1beta1;g=config.k8s.io;as=Flagz\r\nConnection: close\r\n\r\n';
    const flagz = await sendRaw(node, 10_249, `GET /flagz HTTP/1.1\r\nHost: x\r\n${accept}`);
    assert.equal(object(flagz).flags['conntrack-min'], '5');
    assert.match(flagz, /^content-type: application\/json;g=config\.k8s\.io;v=v1beta1;as=Flagz\r$/im);
    const ask = (path: string, wanted: string): Promise<string> =>
      sendRaw(
        node,
        10_249,
        `GET ${path} HTTP/1.1\r\nHost: x\r\nAccept: ${wanted}\r\nConnection: close\r\n\r\n`,
      );
    const yaml = await ask('/statusz', 'application/yaml;v=v1beta1;g=config.k8s.io;as=Statusz');
    assert.match(yaml, /^content-type: application\/yaml;g=config\.k8s\.io;v=v1beta1;as=Statusz\r$/im);
    assert.match(yaml, /^kind: Statusz$/m);
    const refused = await ask('/statusz', 'application/json');
    assert.match(refused, /^HTTP\/1\.1 406 /);
    assert.equal(object(refused).reason, 'NotAcceptable');
    assert.equal(await httpStatus(node, 10_249, '/debug/pprof/'), 404);
  });
});

test('a node whose name matches no Node is not for load balancers, and not for restarting either', async () => {
  await withNamespace('servers', async (node) => {
    const api = await NamespacedKubeApi.start(node);
    api.send({ put: [{ kind: 'Node', metadata: { name: 'node1.example.com' } }] });
    const proxy = startProxy(node, [`--master=${api.url}`, '--hostname-override=node1']);
    await waitFor('503', async () => (await httpStatus(node, 10_256, '/healthz')) === 503, {
      explain: proxy.text,
    });
    assert.equal(await httpStatus(node, 10_256, '/livez'), 200);
    const problem =
      /no Node is called 'node1', so no endpoint counts as here; names like it: node1\.example\.com: --hostname-override/;
    await waitFor('word of it', async () => problem.test(await httpAnswer(node, 10_256, '/readyz')));
    await waitFor('rules all the same', async () => (await httpStatus(node, 10_256, '/readyz')) === 200);
    assert.match(await httpAnswer(node, 10_256, '/readyz'), problem);
    const [line] = proxy.warnings().filter(({ msg }) => msg === 'no Node has this name');
    assert.equal(line?.level, 50);
    api.send({ put: [{ kind: 'Node', metadata: { name: 'node1' } }] });
    const metrics = await httpAnswer(node, 10_249, '/metrics');
    const { host } = new URL(api.url);
    assert.match(
      metrics,
      new RegExp(`^rest_client_requests_total{method="GET",host="${host}",code="200"} `, 'm'),
    );
    await waitFor('200', async () => (await httpStatus(node, 10_256, '/healthz')) === 200);
    assert.doesNotMatch(await httpAnswer(node, 10_256, '/readyz'), problem);
    const slis = await httpAnswer(node, 10_249, '/healthz/ping').then(() =>
      httpAnswer(node, 10_249, '/metrics/slis'),
    );
    assert.match(slis, /^kubernetes_healthcheck\{name="ping",type="healthz"\} 1$/m);
    assert.match(slis, /^kubernetes_healthchecks_total\{name="ping",type="healthz",status="success"\} 1$/m);
    assert.match(
      await httpAnswer(node, 10_249, '/metrics'),
      new RegExp(`^rest_client_request_duration_seconds_count\\{verb="GET",host="${host}"\\} `, 'm'),
    );
    proxy.child.kill();
    await once(proxy.child, 'exit');
  });
});

/** A Service whose only endpoint is on the node; none without a node. */
const localService = (name: string, number: number, node: string | undefined, policy = 'Local'): string => `
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: ${name}}
spec:
  type: NodePort
  clusterIP: 10.96.0.${number}
  clusterIPs: [10.96.0.${number}]
  externalTrafficPolicy: ${policy}
  internalTrafficPolicy: ${policy}
  ports: [{name: http, port: 80, protocol: TCP, nodePort: ${30_000 + number}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: ${name}, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: ${node === undefined ? '[]' : `[{addresses: [10.244.1.${number}], conditions: {ready: true}, nodeName: ${node}}]`}
`;

for (const mode of ['iptables', 'nftables'])
  test(`mode ${mode} counts ports with policy Local whose endpoints are all elsewhere`, () => {
    const services = [
      localService('elsewhere', 10, 'node2'),
      localService('further', 11, 'node2'),
      localService('here', 12, 'node1'),
      localService('empty', 13, undefined),
      localService('anywhere', 14, 'node2', 'Cluster'),
    ];
    const flags = [`--proxy-mode=${mode}`, '--hostname-override=node1'];
    const counted = (metrics: string): string[] =>
      [...metrics.matchAll(/^kubeproxy_sync_proxy_rules_no_local_endpoints_total\{(.*)\} (\d+)\r?$/gm)]
        .map(([, labels, count]) => `${labels?.match(/"\w+"/g)?.join(' ')} ${count}`)
        .sort();
    const wanted = [
      '"IPv4" "external" 2',
      '"IPv4" "internal" 2',
      '"IPv6" "external" 0',
      '"IPv6" "internal" 0',
    ];
    return withProxy(
      flags,
      async (node, proxy) => {
        const isAsWanted = async (): Promise<boolean> => {
          assert.deepEqual(counted(await httpAnswer(node, 10_249, '/metrics')), wanted);
          return true;
        };
        await waitFor('the counts', isAsWanted, { explain: proxy.text });
      },
      services.join('---'),
    );
  });
