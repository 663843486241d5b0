import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { hostileObjects, injected } from '../../lab/hostile-objects.ts';
import type { ApiObject } from '../../lab/kube-api.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { withServiceLab } from '../../lab/service-lab.ts';

const SEED = Number(process.env.TWILL_TEST_SEED ?? 20_261_126);
/** Heaps grow by steps, and the machine is not alone. */
const TOLERANCE_MIB = 16;

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

const ports = [{ name: 'http', port: 8080, protocol: 'TCP' }];

/** The API server's store has room for objects with a name only; the rest comes through files. */
function storable(object: Record<string, unknown>): boolean {
  const metadata = object.metadata as Record<string, unknown> | null | undefined;
  const named = [metadata?.namespace, metadata?.name].every((one) => typeof one === 'string' && one !== '');
  const kinds = ['v1 Service', 'discovery.k8s.io/v1 EndpointSlice'];
  return named && kinds.includes(`${object.apiVersion} ${object.kind}`);
}

test(`a proxy that is sent whatever answers afterwards, and is as before when that is gone (seed ${SEED})`, () =>
  withServiceLab({ nodes: 1 }, async (services) => {
    const node = services.lab.nodes[0]!;
    const a = await services.addServer(node, 'a');
    const caller = await services.addPod(node, 'caller');
    const api = await NamespacedKubeApi.start(node.namespace);
    const good = (name: string, clusterIP: string): ApiObject[] =>
      [
        serviceObject(`shop/${name}`, { clusterIP, ports: [{ name: 'http', port: 80 }] }),
        sliceObject(`shop/${name}`, ports, [{ ip: a.ipv4, node: 'node1' }]),
      ] as unknown as ApiObject[];
    api.send({ put: good('first', '10.97.0.1') });
    await services.startProxy(node, ['--manifests=', `--master=${api.url}`, '--log-format=json']);
    const reached = async (address: string): Promise<boolean> =>
      (await caller.probe.ask({ protocol: 'tcp', address, port: 80 }).catch(() => undefined))?.server === 'a';
    const rules = async (): Promise<string> =>
      (await node.exec('iptables-nft-save', []))
        .split('\n')
        .filter((line) => line.startsWith('-A'))
        .sort()
        .join('\n');
    const settled = async (name: string, clusterIP: string): Promise<void> => {
      api.send({ put: good(name, clusterIP) });
      await services.lab.waitFor(`Service ${name}`, () => reached(clusterIP));
    };
    await settled('second', '10.97.0.2');
    const before = await rules();
    const round = (seed: number): ApiObject[] => {
      const objects = hostileObjects(seed, 900).filter(storable) as unknown as ApiObject[];
      assert.ok(objects.length > 100);
      api.send({ put: objects });
      return objects;
    };
    // The first round is what a heap needs to find its size.
    const first = round(SEED);
    await settled('other', '10.97.0.4');
    api.send({ delete: [...first, ...good('other', '10.97.0.4')] });
    await services.lab.waitFor('the rules of before', async () => (await rules()) === before);
    const memory = residentMiB(node.proxy!.pid);
    const objects = round(SEED + 1);
    await settled('third', '10.97.0.3');
    assert.ok(!(await rules()).includes(injected));
    assert.match(await services.get(node, 10_256, '/readyz'), /^HTTP\/1.1 200/);
    for (const line of node.proxy!.log().trim().split('\n')) assert.ok(line.startsWith('{'), line);
    api.send({ delete: [...objects, ...good('third', '10.97.0.3')] });
    await services.lab.waitFor('the rules of before', async () => (await rules()) === before);
    assert.equal(await reached('10.97.0.1'), true);
    // A heap that has grown shrinks when there is nothing to do.
    const now = (): number => residentMiB(node.proxy!.pid);
    await services.lab.waitFor('the memory of before', () => now() <= memory + TOLERANCE_MIB, {
      explain: () => `${memory} MiB, then ${now()}`,
    });
  }));
