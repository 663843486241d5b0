import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseManifests } from '../../../src/services/sources/manifests.ts';

/** What kubectl, which has Go's YAML library, would apply. */
const yaml = `
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  type: NodePort
  ports: [{port: 0x50, targetPort: 8080, nodePort: 30_080}]
---
kind: EndpointSlice
metadata:
  <<: {namespace: shop}
  name: web-1
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{port: 0120}]
endpoints:
  - {addresses: [10.244.1.1], conditions: {ready: yes}}
  - {addresses: [10.244.1.2], conditions: {ready: no, serving: Off, terminating: on}}
`;

test('manifests are read as kubectl reads them', () => {
  const skipped: string[] = [];
  const { services, slices } = parseManifests(yaml, 'web.yaml', {
    skipped: (_, reason) => skipped.push(reason),
  });
  assert.deepEqual(skipped, []);
  assert.deepEqual(
    services[0]?.ports.map(({ port, nodePort }) => [port, nodePort]),
    [[80, 30_080]],
  );
  const [slice] = slices;
  assert.deepEqual([slice?.namespace, slice?.ports[0]?.port], ['shop', 80]);
  assert.deepEqual(
    slice?.endpoints.map(({ ready, serving, terminating }) => [ready, serving, terminating]),
    [
      [true, true, false],
      [false, false, true],
    ],
  );
});

const withMetadata = (between: string): string => `
kind: Service
metadata: { name: before, namespace: shop }
spec: { clusterIP: 10.96.0.1, ports: [{ port: 80 }] }
---
kind: Service
metadata: { name: between, namespace: shop, ${between} }
spec: { clusterIP: 10.96.0.2, ports: [{ port: 80 }] }
---
kind: Service
metadata: { name: after, namespace: shop }
spec: { clusterIP: 10.96.0.3, ports: [{ port: 80 }] }
`;

test('a document that YAML cannot put together is named, and the others of its file stand', () => {
  for (const [between, reason] of [
    ['labels: *nobody', /^document 2: .*nobody/],
    ['<<: [1, 2]', /^document 2: Merge sources must be maps/],
  ] as const) {
    const skipped: string[] = [];
    const { services } = parseManifests(withMetadata(between), 'web.yaml', {
      skipped: (path, said) => skipped.push(`${path}: ${said}`),
    });
    assert.deepEqual(
      services.map(({ name }) => name),
      ['before', 'after'],
    );
    assert.equal(skipped.length, 1);
    assert.match(skipped[0]!.replace(/^web\.yaml: /, ''), reason);
  }
});
