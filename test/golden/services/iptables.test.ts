import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { renderDocument, tableChange } from '../../../src/services/iptables/plan/document.ts';
import { jumps, localnetJumps, tables } from '../../../src/services/iptables/plan/names.ts';
import type { RenderOptions } from '../../../src/services/iptables/plan/options.ts';
import { Ruleset } from '../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { checkReferences } from '../../lab/rules.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { renderOptionsFor } from '../../lab/service-fixtures.ts';

// The compiled tests run in build/test; the documents lie beside the sources. UPDATE_GOLDEN=1 writes them anew.
const folder = join(import.meta.dirname, '../../../../test/golden/services/iptables');

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
  ruleset.flush();
  const changes = tables.map((table) => {
    const desired = ruleset.chains[table];
    const wanted = options.localhostNodePorts ? [...localnetJumps, ...jumps] : jumps;
    const missing = wanted.filter((jump) => jump.table === table);
    return tableChange(table, desired.keys(), { desired, installed: new Map() }, { missing, surplus: [] });
  });
  return renderDocument(changes);
}

describe('the iptables document of', () => {
  for (const family of [ipv4, ipv6]) {
    for (const { name, states } of serviceCases) {
      if (family === ipv6 && name !== 'dual-stack' && name !== 'nothing') continue;
      test(`${name}, ${family.kubeName}`, () => {
        const text = document(states, renderOptionsFor(family));
        checkReferences(text);
        const path = join(folder, `${name}.${family.name}.golden`);
        if (process.env.UPDATE_GOLDEN === '1' || !existsSync(path)) {
          assert.equal(process.env.UPDATE_GOLDEN, '1', `${path} is missing`);
          writeFileSync(path, text);
        }
        assert.equal(text, readFileSync(path, 'utf8'));
      });
    }
  }
});

test('a jump to a missing chain is found', () => {
  const broken = '*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j KUBE-SVC-MISSING\nCOMMIT\n';
  assert.throws(() => checkReferences(broken), /KUBE-SVC-MISSING/);
});
