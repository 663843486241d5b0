import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RulesHealth } from '../../../src/services/plan/health.ts';
import { flagzText, statuszText, wantedForm } from '../../../src/services/plan/zpages.ts';

describe('a proxy is healthy', () => {
  const both = (): RulesHealth => new RulesHealth(['IPv4', 'IPv6'], 60_000);
  const healthy = (health: RulesHealth, now: number): boolean[] =>
    [...health.status(now).values()].map((one) => one.healthy);

  test('while it has nothing to write, however long ago it wrote', () => {
    const health = both();
    assert.deepEqual(healthy(health, 1e9), [true, true]);
    health.written('IPv4', 0, false);
    assert.deepEqual(healthy(health, 1e9), [true, true]);
    assert.equal(health.status(5000).get('IPv4')?.sinceMs, 5000);
    assert.equal(health.status(5000).get('IPv6')?.sinceMs, undefined);
  });

  test('until the oldest change of a family has waited for the time-out, whatever came after it', () => {
    const health = both();
    health.queued('IPv4', 1000);
    health.queued('IPv4', 50_000);
    assert.deepEqual(healthy(health, 60_999), [true, true]);
    assert.deepEqual(healthy(health, 61_000), [false, true]);
    health.written('IPv4', 61_500, false);
    assert.deepEqual(healthy(health, 61_500), [true, true]);
  });

  test('for the time-out after a write during which more changes came', () => {
    const health = both();
    health.queued('IPv6', 0);
    health.written('IPv6', 1000, true);
    assert.deepEqual(healthy(health, 60_999), [true, true]);
    assert.deepEqual(healthy(health, 61_000), [true, false]);
  });
});

test('a structured page is given to who names its group, version and kind, and nothing to who wants what there is not', () => {
  const json = (version: string) => ({ type: 'application/json', version });
  for (const [accept, form] of [
    ['application/json;v=v1beta1;g=config.k8s.io;as=Flagz', json('v1beta1')],
    ['application/json; as=Flagz; g=config.k8s.io; v=v1alpha1', json('v1alpha1')],
    ['application/json;v=v1beta1;g=config.k8s.io;as=Flagz;q=0.9', json('v1beta1')],
    ['application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz', { type: 'application/yaml', version: 'v1beta1' }],
    ['application/json;v=v1beta1;g=config.k8s.io;as=Flagz, text/plain', json('v1beta1')],
    ['text/plain, application/json;v=v1beta1;g=config.k8s.io;as=Flagz', 'text'],
    ['text/plain;q=0.5, application/json;v=v1beta1;g=config.k8s.io;as=Flagz', json('v1beta1')],
    ['text/html, text/plain', 'text'],
    ['text/plain;q=0.5', 'text'],
    ['text/*', 'text'],
    ['*/*', 'text'],
    ['', 'text'],
    ['application/json;v=v1;g=config.k8s.io;as=Flagz', undefined],
    ['application/json;v=v1beta1;g=config.k8s.io;as=Statusz', undefined],
    ['application/json;v=v1beta1;as=Flagz', undefined],
    ['application/json;g=config.k8s.io;as=Flagz', undefined],
    ['application/cbor;v=v1beta1;g=config.k8s.io;as=Flagz', undefined],
    ['application/json', undefined],
    ['application/yaml', undefined],
    ['text/html', undefined],
    ['application/openmetrics-text', undefined],
  ] as const)
    assert.deepEqual(wantedForm(accept, 'Flagz'), form, accept);
});

test('pages for people', () => {
  const status = {
    started: '2026-01-01T00:00:00Z',
    upSeconds: 3661.9,
    nodeVersion: 'v20',
    version: '1',
    paths: ['/b', '/a'],
  };
  assert.match(
    statuszText(status),
    /^\ntwill-proxy statusz\nWarning: .*\n\nStarted: 2026-01-01T00:00:00Z\nUp: 1 hr 01 min 01 sec\n/,
  );
  assert.match(statuszText(status), /^Paths: \/a \/b$/m);
  assert.match(
    flagzText([
      ['a', '1'],
      ['b', ''],
    ]),
    /^\ntwill-proxy flagz\nWarning: .*\n\na=1\nb=\n$/,
  );
});
