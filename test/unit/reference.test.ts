import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../lab/files.ts';

test('docs/reference.md is what --help and /metrics are made of', async () => {
  const { reference } = (await import(join(root, 'tools/reference.mjs'))) as {
    reference: () => Promise<string>;
  };
  const text = readFileSync(join(root, 'docs/reference.md'), 'utf8');
  assert.equal(text, await reference(), 'run node tools/reference.mjs');
});
