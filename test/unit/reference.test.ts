import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ProxyMetrics } from '../../src/services/metrics.ts';
import { root } from '../lab/files.ts';

test('docs/reference.md is what --help and /metrics are made of', async () => {
  const { reference } = (await import(join(root, 'tools/reference.mjs'))) as {
    reference: () => Promise<string>;
  };
  const text = readFileSync(join(root, 'docs/reference.md'), 'utf8');
  assert.equal(text, await reference(), 'run node tools/reference.mjs');
});

for (const mode of ['iptables', 'nftables'] as const)
  test(`docs/reference.md names every metric of the proxy in mode ${mode}`, () => {
    const text = readFileSync(join(root, 'docs/reference.md'), 'utf8');
    const metrics = new ProxyMetrics();
    metrics.modeIs({ mode, reason: 'asked for' }, mode);
    if (mode === 'iptables') metrics.countPackets(async () => undefined);
    const names = metrics.registry.getMetricsAsArray().map(({ name }) => name);
    assert.deepEqual(
      names.filter((name) => !text.includes(`| \`${name}\` |`)),
      [],
    );
  });
