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
