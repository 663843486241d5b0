import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import type { Manifest } from '../../lab/manifests.ts';
import type { Place } from '../../lab/place.ts';
import { kubeAssets } from '../../lab/real/assets.ts';
import { KubeApiServer, pathOf } from '../../lab/real/kube-apiserver.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { type ServiceLab, withServiceLab } from '../../lab/service-lab.ts';

const clusterIP = '10.96.0.10';
const target = { protocol: 'tcp', address: clusterIP, port: 80, timeoutMs: 700 } as const;
const web = serviceObject('default/web', { clusterIP, ports: [{ name: 'http', port: 80 }] });

/** Objects in an API server, whichever it is. */
interface Api {
  /** Flags by which the proxy reaches it. */
  readonly flags: readonly string[];
  put(object: Record<string, unknown>): Promise<void>;
  delete(object: Record<string, unknown>): Promise<void>;
}

async function ownApi({ lab }: ServiceLab): Promise<Api> {
  const api = await NamespacedKubeApi.start(lab.underlay, '192.0.2.1');
  return {
    flags: [`--master=${api.url}`],
    put: async (object) => api.send({ put: [object as unknown as ApiObject] }),
    delete: async (object) => api.send({ delete: [object as unknown as ApiObject] }),
  };
}

async function realApi({ lab }: ServiceLab): Promise<Api> {
  const api = await KubeApiServer.start(lab, assets!);
  await api.applyFile('daemonset.yaml');
  const token = await api.tokenOf('twill-proxy', 'node1');
  return {
    flags: [`--kubeconfig=${api.kubeconfig('proxy', token)}`],
    put: (object) => api.apply(object as unknown as Manifest),
    async delete(object) {
      await api.must('DELETE', pathOf(object as unknown as Manifest));
    },
  };
}

function slice(...pods: readonly Place[]): Record<string, unknown> {
  const endpoints = pods.map((pod) => ({ ip: pod.ipv4, node: 'node1' }));
  return sliceObject('default/web', [{ name: 'http', port: 8080, protocol: 'TCP' }], endpoints);
}

function checks(start: (services: ServiceLab) => Promise<Api>): void {
  test('Services and their endpoints come, change and go with what the server says', async () => {
    await withServiceLab({ nodes: 1 }, async (services) => {
      const node = services.lab.nodes[0]!;
      const [a, b] = [await services.addServer(node, 'a'), await services.addServer(node, 'b')];
      const caller = await services.addPod(node, 'caller');
      const api = await start(services);
      await api.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' } });
      await api.put(web);
      await api.put(slice(a));
      await services.startProxy(node, ['--manifests=', ...api.flags]);
      assert.equal((await caller.probe.ask({ ...target, timeoutMs: 10_000 })).server, 'a');
      await api.put(slice(b));
      await services.lab.waitFor(
        'the other endpoint to answer',
        async () => (await caller.probe.ask(target)).server === 'b',
      );
      await api.delete(slice(b));
      await services.lab.waitFor('a refusal', async () =>
        caller.probe.ask(target).then(
          () => false,
          (error: Error) => /ECONNREFUSED/.test(error.message),
        ),
      );
      await api.delete(web);
      await services.lab.waitFor(
        'the rules to go',
        async () => !(await node.exec('iptables-nft-save', [])).includes(clusterIP),
      );
    });
  });
}

describe("Services from the Kubernetes API, the tests' own server", () => checks(ownApi));

const assets = kubeAssets(process.env);
if (assets === undefined)
  process.stdout.write(
    'NOT RUN: Services from a real kube-apiserver; set TEST_ASSET_KUBE_APISERVER for it\n',
  );
else describe('Services from the Kubernetes API, kube-apiserver', () => checks(realApi));
