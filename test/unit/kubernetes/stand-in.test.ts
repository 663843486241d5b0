import assert from 'node:assert/strict';
import { test } from 'node:test';
import { patchNode } from '../../lab/kube-patch.ts';
import { patchCases, patchType } from '../../lab/patch-cases.ts';

const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node1', uid: 'its own', resourceVersion: '7', annotations: { 'node.alpha/ttl': '0' } },
  spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] },
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
};

for (const one of patchCases)
  test(`the tests’ API server: ${patchType(one)} ${one.body.slice(0, 80)}`, () => {
    const result = patchNode(structuredClone(node), one.body, patchType(one), one.main === undefined);
    assert.equal('code' in result ? result.code : 200, one.code, JSON.stringify(result));
  });

test('of a status’s patch nothing of the specification comes, and the reverse', () => {
  const patch = JSON.stringify({ spec: { unschedulable: true }, status: { phase: 'x' } });
  const type = 'application/merge-patch+json';
  for (const [ofStatus, spec, status] of [
    [true, node.spec, { ...node.status, phase: 'x' }],
    [false, { ...node.spec, unschedulable: true }, node.status],
  ] as const) {
    const result = patchNode(structuredClone(node), patch, type, ofStatus);
    assert.ok('object' in result);
    assert.deepEqual([result.object.spec, result.object.status], [spec, status]);
  }
});
