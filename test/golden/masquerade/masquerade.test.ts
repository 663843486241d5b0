import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chainDocument } from '../../../src/masquerade/plan/iptables.ts';
import { nftDocument } from '../../../src/masquerade/plan/nftables.ts';
import { trafficChains } from '../../../src/masquerade/plan/rules.ts';
import { exampleTraffic } from '../../lab/traffic.ts';

// The compiled tests run in build/test; the documents lie beside the sources. UPDATE_GOLDEN=1 writes them anew.
const folder = join(import.meta.dirname, '../../../../test/golden/masquerade');

function compare(name: string, text: string): void {
  const path = join(folder, `${name}.golden`);
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(path, text);
  assert.ok(existsSync(path), `${path} is missing`);
  assert.equal(text, readFileSync(path, 'utf8'));
}

for (const rules of exampleTraffic) {
  const { name } = rules.family;
  test(`rules for pods' traffic: ${name}, iptables`, () => {
    const documents = trafficChains.map((chain) =>
      chainDocument(chain, chain.rules(rules), rules.randomFully, { own: undefined, parent: [] }),
    );
    compare(`${name}.iptables`, documents.join(''));
  });

  test(`rules for pods' traffic: ${name}, nftables`, () => compare(`${name}.nftables`, nftDocument(rules)));
}
