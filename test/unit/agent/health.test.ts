import assert from 'node:assert/strict';
import { it } from 'node:test';
import { healthz } from '../../../src/agent/health.ts';
import type { Masquerade } from '../../../src/masquerade/masquerade.ts';

const parts = (stuckMs: number): Parameters<typeof healthz>[0] => ({
  overlay: undefined,
  masquerade: { loop: { status: () => ({ name: 'masquerade', stuckMs }) } } as unknown as Masquerade,
});

it('healthz fails when a loop has hung for two minutes, and not before', () => {
  assert.equal(healthz({ overlay: undefined, masquerade: undefined }).status, 200);
  assert.equal(healthz(parts(119_000)).status, 200);
  assert.deepEqual(healthz(parts(121_000)), { status: 500, body: "the loop 'masquerade' is stuck\n" });
});
