import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { families } from '../../../src/model/address.ts';
import { ownChain, repairDocument, replaceDocument } from '../../../src/pods/plan/hostports.ts';
import { withNamespace } from '../../lab/namespace.ts';

const folder = join(import.meta.dirname, '../../../../test/golden/pods');

for (const family of families) {
  for (const variant of ['nft', 'legacy'] as const) {
    test(`host port rules read back as they were written: ${family.iptables}-${variant}`, async () => {
      const document = readFileSync(join(folder, `hostports.${family.name}.golden`), 'utf8');
      const rules = document.split('\n').filter((line) => line.startsWith(`-A ${ownChain} `));
      await withNamespace('hostports', async (namespace) => {
        const program = `${family.iptables}-${variant}`;
        const restore = (input: string): Promise<string> =>
          namespace.exec(`${program}-restore`, ['--noflush'], { input });
        const save = (): Promise<string> => namespace.exec(`${program}-save`, ['-t', 'nat']);
        await restore(document);
        assert.equal(repairDocument(await save(), rules), undefined);
        await restore(replaceDocument(rules));
        assert.equal(repairDocument(await save(), rules), undefined, 'replaced by the same');
        await restore(repairDocument(await save(), []) ?? '');
        assert.doesNotMatch(await save(), /TWILL/);
      });
    });
  }
}
