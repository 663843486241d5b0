import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { families } from '../../../src/model/address.ts';
import { hostPortsOf } from '../../../src/pods/plan/hostport-rules.ts';
import {
  foundNftMappings,
  freshHostPortDocument,
  hostPortDocument,
  hostPortTable,
  standsAsWanted,
} from '../../../src/pods/plan/nft-hostports.ts';
import type { HostPortOptions, PodRecord } from '../../../src/pods/plan/pod.ts';
import { hostPortPods } from '../../lab/hostport-pods.ts';
import { withNamespace } from '../../lab/namespace.ts';

const folder = join(import.meta.dirname, '../../../../test/golden/pods');

const withOptions = (order: number, hostPort: number, hostPortOptions: HostPortOptions): PodRecord => ({
  ...hostPortPods[0]!,
  containerId: `options${order}`,
  portMappings: [{ hostPort, containerPort: 80, protocol: 'tcp' }],
  hostPortOptions,
  order,
});

const pods: readonly PodRecord[] = [
  ...hostPortPods,
  withOptions(5, 7001, { snat: false }),
  withOptions(6, 7002, { masqAll: true }),
  withOptions(7, 7003, { markMasqBit: 20 }),
];

for (const family of families) {
  test(`host ports in nftables, ${family.kubeName}: the document, and the kernel has it as it was meant`, async () => {
    const rules = hostPortsOf(pods, family);
    const document = hostPortDocument(family, rules);
    const path = join(folder, `hostports-nft.${family.name}.golden`);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(path, document);
    assert.ok(existsSync(path), `${path} is missing`);
    assert.equal(document, readFileSync(path, 'utf8'));
    await withNamespace('hostports', async (node) => {
      const apply = (input: string) => node.exec('nft', ['-f', '-'], { input });
      const list = () => node.exec('nft', ['-s', 'list', 'table', family.nft, hostPortTable]);
      for (const input of [document, document, freshHostPortDocument(family, rules)]) {
        await apply(input);
        assert.ok(standsAsWanted(family, await list(), rules), await list());
      }
      const found = foundNftMappings(await list());
      assert.deepEqual(
        found.map(({ hostPort, address, containerPort }) => [hostPort, address, containerPort]),
        rules.map(({ hostPort, target }) => [hostPort, target.address, target.port]),
      );
      const options = (port: number) => found.find(({ hostPort }) => hostPort === port)?.options;
      assert.deepEqual([7001, 7002, 7003].map(options), [
        { snat: false },
        { masqAll: true },
        { markMasqBit: 20 },
      ]);
      for (const change of [
        'flush chain X prerouting',
        'flush chain X hostports',
        'delete chain X postrouting',
      ]) {
        await apply(document);
        const chain = change.replace('X', `${family.nft} ${hostPortTable}`);
        await apply(
          change.startsWith('delete') ? `${chain.replace('delete', 'flush')}\n${chain}\n` : `${chain}\n`,
        );
        assert.ok(!standsAsWanted(family, await list(), rules), change);
      }
      assert.ok(!standsAsWanted(family, undefined, rules));
    });
  });
}
