import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import pino from 'pino';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { type Family, ipv4, ipv6 } from '../../../src/model/address.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { NftRules } from '../../../src/services/nftables/rules.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { serviceCases } from '../../lab/service-cases.ts';
import { nftOptionsFor } from '../../lab/service-fixtures.ts';

const log = pino({ level: 'silent' });

function makeRules(namespace: Namespace, family: Family): NftRules {
  return new NftRules({
    table: openNftTable(family, tableName, namespace.name),
    render: nftOptionsFor(family),
    node: { name: 'node-a', zone: 'zone-a' },
    log,
  });
}

const goldens = join(import.meta.dirname, '../../../../test/golden/services/nftables');

/** What stands, each element and rule a line, in the order of the alphabet: sets have none of their own. */
async function elements(namespace: Namespace, family: Family): Promise<string[]> {
  const text = await standing(namespace, family);
  let where = '';
  return text
    .split(/\n|, (?=\S)/)
    .map((line) => line.trim().replace(/^elements = \{ | \}$|,$/g, ''))
    .map((line) => {
      if (/^(set|map|chain) /.test(line)) where = line;
      return `${where} ${line}`;
    })
    .sort();
}

/** What stands, in nft's words. */
async function standing(namespace: Namespace, family: Family): Promise<string> {
  return await namespace.exec('nft', ['-s', 'list', 'table', family.nft, tableName]);
}

describe('nftables', () => {
  for (const family of [ipv4, ipv6]) {
    test(`takes every kind of Service in ${family.kubeName}, and a new proxy finds nothing to change`, async () => {
      await withNamespace('nft', async (namespace) => {
        for (const { name, states } of serviceCases) {
          await makeRules(namespace, family).sync(states, true);
          const text = await standing(namespace, family);
          const again = await makeRules(namespace, family).sync(states, true);
          assert.deepEqual([name, again.bytes, again.transactions], [name, 0, 0]);
          assert.equal(await standing(namespace, family), text);
          // What an operator saves can be loaded again.
          await namespace.exec('nft', ['-c', '-f', '-'], { input: text });
        }
      });
    });

    test(`what is written in ${family.kubeName} is what nft makes of the document`, async () => {
      await withNamespace('nft', async (namespace) => {
        for (const { name, states } of serviceCases) {
          const golden = join(goldens, `${name}.${family.name}.golden`);
          if (!existsSync(golden)) continue;
          const table = `${family.nft} ${tableName}`;
          await makeRules(namespace, family).sync(states, true);
          await namespace.exec('nft', ['flush', 'set', ...table.split(' '), 'stamps']);
          const written = await elements(namespace, family);
          await namespace.exec('nft', ['delete', 'table', ...table.split(' ')]);
          await namespace.exec('nft', ['-f', golden]);
          assert.deepEqual(written, await elements(namespace, family), name);
          await namespace.exec('nft', ['delete', 'table', ...table.split(' ')]);
        }
      });
    });
  }
});
