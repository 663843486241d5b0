import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { nftDocument } from '../../lab/nft-document.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { nftOptionsFor } from '../../lab/service-fixtures.ts';

// The compiled tests run in build/test; the documents lie beside the sources. UPDATE_GOLDEN=1 writes them anew.
const folder = join(import.meta.dirname, '../../../../test/golden/services/nftables');

const node = { name: 'node-a', zone: 'zone-a' };

describe('the nftables document of', () => {
  for (const family of [ipv4, ipv6]) {
    for (const { name, states } of serviceCases) {
      if (family === ipv6 && name !== 'dual-stack' && name !== 'nothing') continue;
      test(`${name}, ${family.kubeName}`, () => {
        const text = nftDocument(states, family, node, nftOptionsFor(family));
        const path = join(folder, `${name}.${family.name}.golden`);
        if (process.env.UPDATE_GOLDEN === '1' || !existsSync(path)) {
          assert.equal(process.env.UPDATE_GOLDEN, '1', `${path} is missing`);
          mkdirSync(folder, { recursive: true });
          writeFileSync(path, text);
        }
        assert.equal(text, readFileSync(path, 'utf8'));
      });
    }
  }
});
