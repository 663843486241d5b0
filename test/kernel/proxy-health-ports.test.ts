import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import pino from 'pino';
import { localReadyCount } from '../../src/desired/service-table.ts';
import { HealthPorts } from '../../src/reconcile/proxy-health-ports.ts';
import { sliceObject, stateOf } from '../lab/service-fixtures.ts';
import { waitFor } from '../lab/wait.ts';

async function answer(port: number): Promise<{ status: number; weight: string | null; body: unknown }> {
  const response = await fetch(`http://127.0.0.1:${port}/`);
  const weight = response.headers.get('x-load-balancing-endpoint-weight');
  return { status: response.status, weight, body: await response.json() };
}

/** A port that somebody holds until told not to. */
async function held(): Promise<{ port: number; release: () => Promise<unknown> }> {
  const holder = createServer().listen(0);
  await once(holder, 'listening');
  return {
    port: (holder.address() as AddressInfo).port,
    release: () => once(holder.close(), 'close'),
  };
}

test('a health check port says how many endpoints are here, and is served once whoever held it is gone', async () => {
  let healthy = true;
  const ports = new HealthPorts(() => healthy, pino({ level: 'silent' }));
  try {
    const { port, release } = await held();
    ports.set('shop/web', port, 2);
    await release();
    const first = await waitFor('an answer', () => answer(port));
    const service = { namespace: 'shop', name: 'web' };
    assert.deepEqual(first, {
      status: 200,
      weight: '2',
      body: { service, localEndpoints: 2, serviceProxyHealthy: true },
    });
    ports.set('shop/web', port, 0);
    assert.equal((await answer(port)).status, 503);
    ports.set('shop/web', port, 1);
    healthy = false;
    assert.equal((await answer(port)).status, 503);
    healthy = true;
    // Another Service takes the port over in one change, whichever is told first.
    ports.set('shop/other', port, 1);
    ports.set('shop/web', 0, 0);
    await waitFor('the other Service', async () =>
      JSON.stringify((await answer(port)).body).includes('"other"'),
    );
  } finally {
    ports.stop();
  }
});

test('a pod of a dual-stack Service is one endpoint', () => {
  const [, { slices }] = stateOf(
    { metadata: { namespace: 'shop', name: 'web' }, spec: {} },
    sliceObject(
      'shop/web/4',
      [],
      [
        { ip: '10.244.0.1', node: 'a' },
        { ip: '10.244.0.2', node: 'b' },
      ],
    ),
    sliceObject(
      'shop/web/6',
      [],
      [
        { ip: 'fd00::1', node: 'a' },
        { ip: 'fd00::2', node: 'b' },
      ],
    ),
  );
  assert.equal(localReadyCount(slices, { name: 'a' }), 1);
  assert.equal(localReadyCount(slices, { name: 'c' }), 0);
});
