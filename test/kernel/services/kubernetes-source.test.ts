import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pino from 'pino';
import { KubeClient } from '../../../src/kubernetes/client.ts';
import { monotonicMs } from '../../../src/process/clock.ts';
import type { NodeFacts } from '../../../src/services/plan/service.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { KubeServiceSource } from '../../../src/services/sources/kubernetes.ts';
import { type ApiObject, KubeApi } from '../../lab/kube-api.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';
import { waitFor } from '../../lab/wait.ts';

const log = pino({ level: 'silent' });
const port = { name: 'http', port: 80 };

function service(name: string, clusterIP = '10.96.0.1'): ApiObject {
  return serviceObject(`ns/${name}`, { clusterIP, ports: [port] }) as unknown as ApiObject;
}

function slice(name: string, ...ips: string[]): ApiObject {
  const endpoints = ips.map((ip) => ({ ip }));
  return sliceObject(`ns/${name}`, [port], endpoints) as unknown as ApiObject;
}

interface Watched {
  readonly api: KubeApi;
  readonly tracker: ServiceTracker;
  readonly skipped: string[];
  readonly zones: (string | undefined)[];
  readonly facts: (NodeFacts | undefined)[];
  /** What it was told about a name that no Node has. */
  readonly unknown: (readonly string[])[];
  readonly listCount: () => number;
  readonly services: () => string[];
}

async function withSource(
  work: (watched: Watched) => Promise<void>,
  kubeconfig?: string,
  api?: KubeApi,
): Promise<void> {
  const server = api ?? (await KubeApi.start());
  const tracker = new ServiceTracker();
  const skipped: string[] = [];
  const zones: (string | undefined)[] = [];
  const facts: (NodeFacts | undefined)[] = [];
  const unknown: (readonly string[])[] = [];
  const client = await KubeClient.open(kubeconfig === undefined ? { master: server.url } : { kubeconfig });
  const source = new KubeServiceSource({ client, nodeName: 'node-a', log });
  await source.start({
    replace: (kind, values) => tracker.replace(kind, values),
    change: (change) => tracker.apply(change),
    node: (seen) => {
      zones.push(seen?.zone);
      facts.push(seen);
    },
    nodeUnknown: (like) => unknown.push(like),
    skipped: (where, problem) => skipped.push(`${where}: ${problem}`),
  });
  try {
    await work({
      api: server,
      tracker,
      skipped,
      zones,
      facts,
      unknown,
      listCount: () => server.requests.filter((url) => /services\?.*limit=500/.test(url)).length,
      services: () => [...tracker.keys()].sort(),
    });
  } finally {
    await source.stop();
    await server.stop();
  }
}

test('lists page by page, then follows every change', async () => {
  const api = await KubeApi.start();
  for (let index = 0; index < 1234; index++) api.put(service(`s${index}`));
  await withSource(
    async ({ tracker, listCount }) => {
      await waitFor('the list', () => tracker.serviceCount === 1234);
      assert.equal(listCount(), 3);
      await waitFor('the watches', () => api.watcherCount === 3);
      api.put(service('new'));
      api.put(slice('new', '10.0.0.1'));
      api.delete(service('s0'));
      await waitFor(
        'the changes',
        () => tracker.state('ns/new').slices.length === 1 && tracker.serviceCount === 1234,
      );
      assert.equal(tracker.state('ns/s0').service, undefined);
      api.put(slice('new', '10.0.0.2'));
      await waitFor(
        'the new endpoint',
        () => tracker.state('ns/new').slices[0]!.endpoints[0]!.address === '10.0.0.2',
      );
    },
    undefined,
    api,
  );
});

test('resumes a broken watch where it was, without another list, and with what happened meanwhile', async () => {
  await withSource(async ({ api, services, listCount }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    api.put(service('a'));
    await waitFor('a', () => services().length === 1);
    api.disconnect();
    api.put(service('b'));
    await waitFor('b', () => services().join() === 'ns/a,ns/b');
    assert.equal(listCount(), 1);
  });
});

test('resumes after a bookmark where other events were forgotten', async () => {
  await withSource(async ({ api, services, listCount }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    api.put(slice('x', '10.0.0.1')); // no event for the watch of Services
    api.bookmark();
    await waitFor('the slice', () => services().length === 1);
    api.compact();
    api.disconnect();
    api.put(service('a'));
    await waitFor('a', () => services().includes('ns/a'));
    assert.equal(listCount(), 1);
  });
});

test('lists again when the server has forgotten its place (410), and drops what is gone', async () => {
  await withSource(async ({ api, services, listCount }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    api.put(service('a'));
    api.put(service('b'));
    await waitFor('both', () => services().length === 2);
    api.failWith = 503;
    api.disconnect();
    api.delete(service('a'));
    api.put(service('c'));
    api.compact();
    api.failWith = undefined;
    await waitFor('the new state', () => services().join() === 'ns/b,ns/c');
    assert.equal(listCount(), 2);
  });
});

test('lists again when the server knows less than it did: its etcd was restored from a backup', async () => {
  await withSource(async ({ api, services, listCount }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    api.put(service('a'));
    await waitFor('a', () => services().length === 1);
    const restore = api.backUp();
    for (const name of ['b', 'c', 'd']) api.put(service(name));
    await waitFor('all', () => services().length === 4);
    restore();
    api.disconnect();
    await waitFor('what there was', () => services().join() === 'ns/a');
    api.put(service('e'));
    await waitFor('what comes now', () => services().join() === 'ns/a,ns/e');
    assert.equal(listCount(), 2);
  });
});

test('a label says that a Service is for another proxy, another that a slice is of a headless one; neither means the other', async () => {
  await withSource(async ({ api, tracker }) => {
    const labelled = (object: ApiObject, label: string): ApiObject => {
      const { labels, ...metadata } = object.metadata as ApiObject['metadata'] & { labels?: object };
      const changed = { ...metadata, labels: { ...labels, [`service.kubernetes.io/${label}`]: 'x' } };
      return { ...object, metadata: changed };
    };
    api.put(labelled(service('headless', '10.96.0.3'), 'headless'));
    api.put(labelled(service('foreign', '10.96.0.4'), 'service-proxy-name'));
    api.put(labelled(slice('headless', '10.244.0.3'), 'service-proxy-name'));
    api.put(labelled(slice('foreign', '10.244.0.4'), 'headless'));
    await waitFor('what is ours', () => tracker.state('ns/headless').slices.length === 1);
    assert.equal(tracker.state('ns/headless').service?.clusterIPs[0], '10.96.0.3');
    const { service: other, slices } = tracker.state('ns/foreign');
    assert.deepEqual([other, slices], [undefined, []]);
  });
});

test('keeps trying while the server refuses, and reads a rotated token', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-kube-'));
  const api = await KubeApi.start();
  const tokenFile = join(directory, 'token');
  const kubeconfig = join(directory, 'config');
  writeFileSync(tokenFile, 'first');
  const user = { name: 'u', user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } } };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: api.url } }],
      users: [user],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  api.token = 'first';
  api.put(service('a'));
  try {
    await withSource(
      async ({ services }) => {
        await waitFor('the list', () => services().length === 1);
        await waitFor('the watches', () => api.watcherCount === 3);
        api.token = 'second';
        api.disconnect();
        api.put(service('b'));
        await waitFor('a refusal', () => api.requests.length > 8);
        assert.equal(services().length, 1);
        writeFileSync(tokenFile, 'second');
        await waitFor('b', () => services().length === 2);
      },
      kubeconfig,
      api,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('an object that cannot be used is named and skipped, the others are served', async () => {
  await withSource(async ({ api, services, skipped }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    api.put(service('a"\n-j ACCEPT'));
    api.put({
      ...service('other'),
      metadata: { ...service('other').metadata, labels: { 'service.kubernetes.io/service-proxy-name': 'x' } },
    } as ApiObject);
    api.put(slice('good', '127.0.0.1'));
    api.put(service('good'));
    await waitFor('the good one', () => services().includes('ns/good'));
    assert.deepEqual(services(), ['ns/good']);
    // The two come over watches of their own.
    await waitFor('both problems', () => skipped.length === 2);
    const [first, second] = skipped.sort();
    assert.match(first!, /^EndpointSlice ns\/good-abc: endpoints\[0\]/);
    assert.match(second!, /^Service ns\/a"\n-j ACCEPT: metadata\.name/);
  });
});

test("learns the node's zone and its change", async () => {
  await withSource(async ({ api, zones }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    const node = (zone: string): ApiObject =>
      ({
        kind: 'Node',
        metadata: { name: 'node-a', labels: { 'topology.kubernetes.io/zone': zone } },
      }) as ApiObject;
    api.put(node('z1'));
    api.put(node('z2'));
    await waitFor('both zones', () => zones.length === 3);
    assert.deepEqual(zones, [undefined, 'z1', 'z2']);
  });
});

test('lists in one piece when the pages of a list are forgotten on the way (410)', async () => {
  const api = await KubeApi.start();
  for (let index = 0; index < 1200; index++) api.put(service(`s${index}`));
  // However often it begins anew, the first page is forgotten before the second is asked for.
  api.forgetPages = true;
  await withSource(
    async ({ services }) => {
      await waitFor('the list', () => services().length === 1200);
    },
    undefined,
    api,
  );
});

test('waits longer and longer when a watch fails again and again', async () => {
  await withSource(async ({ api }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    const before = api.requests.length;
    const start = monotonicMs();
    api.failWith = 500;
    api.disconnect();
    const asked = (): number[] => {
      const counts = new Map<string, number>();
      for (const url of api.requests.slice(before).map((request) => request.split('?')[0]!))
        counts.set(url, (counts.get(url) ?? 0) + 1);
      return [...counts.values()];
    };
    await waitFor('five requests of one watch', () => Math.max(0, ...asked()) >= 5);
    // Between them are waits of at least 100, 200, 400 and 800 ms.
    const passed = monotonicMs() - start;
    assert.ok(passed >= 1490, `five requests within ${passed} ms`);
  });
});

test('a name that no Node has is told with the names like it, once for each list', async () => {
  const api = await KubeApi.start();
  const names = ['node-a.example.com', 'node-b', 'mode-a', 'node-ab.example.com', 'worker', 'node'];
  for (const name of names) api.put({ kind: 'Node', metadata: { name } });
  await withSource(
    async ({ unknown, facts }) => {
      await waitFor('word of it', () => unknown.length === 1);
      assert.deepEqual(unknown, [['node-a.example.com', 'mode-a', 'node-ab.example.com', 'node-b']]);
      assert.deepEqual(facts, [undefined]);
      api.put({ kind: 'Node', metadata: { name: 'node-a' } });
      await waitFor('the Node', () => facts.at(-1) !== undefined);
      assert.equal(unknown.length, 1);
    },
    undefined,
    api,
  );
});

test('a Node that is deleted is one that goes; what was known of it stays until it is there again', async () => {
  await withSource(async ({ api, facts }) => {
    await waitFor('the watches', () => api.watcherCount === 3);
    const node = { kind: 'Node', metadata: { name: 'node-a' }, spec: { podCIDRs: ['10.244.1.0/24'] } };
    api.put(node);
    await waitFor('the Node', () => facts.at(-1)?.podCIDRs.join() === '10.244.1.0/24');
    api.delete(node);
    await waitFor('its end', () => facts.at(-1)?.leaving === true);
    assert.deepEqual(facts.at(-1)?.podCIDRs, ['10.244.1.0/24']);
    api.put(node);
    await waitFor('the new Node', () => facts.at(-1)?.leaving === false);
  });
});
