import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { PodRecord } from '../../../src/pods/plan/pod.ts';
import { readRecord } from '../../../src/pods/plan/read-record.ts';
import { PodStore } from '../../../src/pods/store.ts';
import { makeLog } from '../../../src/process/log.ts';

const log = makeLog({ level: 'fatal', format: 'json', name: 'test' });

const record: PodRecord = {
  network: 'net',
  containerId: 'c1',
  ifname: 'eth0',
  netns: '/run/netns/c1',
  addresses: [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }],
  routes: ['0.0.0.0/0'],
  mac: '0a:58:0a:01:00:02',
  mtu: 1450,
  hostVeth: 'veth0123456789a',
  bridge: 'cni0',
  hairpin: true,
  portMappings: [{ hostPort: 80, containerPort: 8080, protocol: 'tcp' }],
  bandwidth: undefined,
  pod: undefined,
  order: 3,
  createdAt: '2026-01-01T00:00:00.000Z',
};

function folder(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'twill-store-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('a record is read whole, or not at all', () => {
  const hostPortOptions = { snat: false, markMasqBit: 4, conditionsV4: ['-s', '10.0.0.0/8'] } as const;
  for (const whole of [record, { ...record, bandwidth: { egressRate: 1e9 }, hostPortOptions }])
    assert.deepEqual(readRecord(JSON.stringify(whole)), JSON.parse(JSON.stringify(whole)));
  const { order: _, routes: __, portMappings: ___, ...early } = record;
  const { order, routes, portMappings } = readRecord(JSON.stringify(early));
  assert.deepEqual([order, routes, portMappings], [0, [], []], 'an early version wrote less');
  for (const damaged of [
    null,
    [],
    'text',
    {},
    { ...record, addresses: null },
    { ...record, addresses: [null] },
    { ...record, addresses: ['10.1.0.2/24'] },
    { ...record, addresses: [{ address: '10.1.0.2', gateway: '10.1.0.1' }] },
    { ...record, addresses: [{ address: '10.1.0.2/24' }] },
    { ...record, hostVeth: 5 },
    { ...record, routes: [{}] },
    { ...record, portMappings: [{ hostPort: 'x', containerPort: 1, protocol: 'tcp' }] },
    { ...record, portMappings: { a: 1 } },
    { ...record, portMappings: [{ hostPort: 80, containerPort: 70_000, protocol: 'tcp' }] },
    { ...record, portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcq' }] },
    { ...record, bandwidth: 'much' },
    { ...record, bandwidth: { ingressRate: '8M' } },
    { ...record, hostPortOptions: null },
    { ...record, hostPortOptions: { conditionsV6: 'any' } },
    { ...record, hostPortOptions: { conditionsV4: [5] } },
    { ...record, hostPortOptions: { markMasqBit: 'x' } },
  ])
    assert.throws(() => readRecord(JSON.stringify(damaged)), JSON.stringify(damaged));
});

test('records that are no whole JSON, or under another’s name, are left out, and the others are known', (t) => {
  const directory = folder(t);
  const first = new PodStore(directory, log);
  first.begin(record);
  first.commit(record);
  const other = { ...record, containerId: 'c2', hostVeth: 'vethother' };
  for (const [name, text] of [
    ['veth1.json', '{}'],
    ['veth2.json', 'null'],
    ['veth3.json', JSON.stringify(other)],
  ] as const)
    writeFileSync(join(directory, 'pods', name), text);
  assert.deepEqual(
    new PodStore(directory, log).list().map(({ containerId }) => containerId),
    ['c1'],
  );
});

test('whatever stands where the last addresses are kept, they are only addresses', (t) => {
  const directory = folder(t);
  new PodStore(directory, log);
  for (const text of ['null', '5', '[]', '{"ipv4":5}', '{"ipv4":"here"}', '{"ipv4":null}', '']) {
    writeFileSync(join(directory, 'pods/last-addresses'), text);
    assert.equal(new PodStore(directory, log).lastAddress('ipv4'), undefined, text);
  }
  writeFileSync(join(directory, 'pods/last-addresses'), '{"ipv4":"10.1.0.9","ipv6":[]}');
  assert.equal(new PodStore(directory, log).lastAddress('ipv4'), '10.1.0.9');
});

test('a folder that is taken away is made again with all that is known', (t) => {
  const directory = folder(t);
  const store = new PodStore(directory, log);
  store.begin(record);
  store.commit(record);
  const pods = join(directory, 'pods');
  rmSync(pods, { recursive: true });
  const second = { ...record, containerId: 'c2', hostVeth: 'veth2' };
  store.begin(second);
  rmSync(pods, { recursive: true });
  store.commit(second);
  assert.deepEqual(readdirSync(pods).sort(), ['boot-id', 'veth0123456789a.json', 'veth2.json']);
  assert.deepEqual(
    new PodStore(directory, log).list().map(({ containerId }) => containerId),
    ['c1', 'c2'],
  );
  store.remove(second);
  assert.ok(!readdirSync(pods).includes('veth2.json'));
  assert.ok(readFileSync(join(pods, 'boot-id'), 'utf8'));
});
