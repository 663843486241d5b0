import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { rulesetDocument } from '../../../src/services/nftables/plan/document.ts';
import type { RenderOptions } from '../../../src/services/nftables/plan/options.ts';
import { Ruleset } from '../../../src/services/nftables/plan/ruleset.ts';
import { renderServicePort } from '../../../src/services/nftables/plan/service-rules.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { nftOptionsFor } from '../../lab/service-fixtures.ts';

// The compiled tests run in build/test; the documents lie beside the sources. UPDATE_GOLDEN=1 writes them anew.
const folder = join(import.meta.dirname, '../../../../test/golden/services/nftables');

/** All that stands for the Services, as one document that `nft -f` takes. */
function document(states: (typeof serviceCases)[number]['states'], options: RenderOptions): string {
  const ruleset = new Ruleset(options);
  const family = options.v6 ? ipv6 : ipv4;
  for (const [key, state] of states) {
    const entries = serviceEntries(state, family, { name: 'node-a', zone: 'zone-a' });
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, options)),
    );
  }
  return rulesetDocument(ruleset, options.v6);
}

describe('the nftables document of', () => {
  for (const family of [ipv4, ipv6]) {
    for (const { name, states } of serviceCases) {
      if (family === ipv6 && name !== 'dual-stack' && name !== 'nothing') continue;
      test(`${name}, ${family.kubeName}`, () => {
        const text = document(states, nftOptionsFor(family));
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
