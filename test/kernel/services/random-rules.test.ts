import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import { type Iptables, type IptablesVariant, openIptables } from '../../../src/kernel/iptables.ts';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { ipv4 } from '../../../src/model/address.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { allDifferences } from '../../../src/services/nftables/plan/changes.ts';
import { tableName } from '../../../src/services/nftables/plan/names.ts';
import { Ruleset } from '../../../src/services/nftables/plan/ruleset.ts';
import { renderServicePort } from '../../../src/services/nftables/plan/service-rules.ts';
import { NftRules } from '../../../src/services/nftables/rules.ts';
import { readStanding } from '../../../src/services/nftables/standing-rules.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { walk, worldOf } from '../../lab/packet-walker.ts';
import { nftOptionsFor, renderOptionsFor } from '../../lab/service-fixtures.ts';
import { nodeAddress, nodeName, ServiceModel } from '../../lab/service-model.ts';
import { standingNftWorld } from '../../lab/standing-nft-world.ts';

const log = pino({ level: 'silent' });
const render = renderOptionsFor(ipv4, { nodeAddresses: [nodeAddress], localhostNodePorts: false });
const local = new Set([nodeAddress, '127.0.0.1']);
const batches = 500;
const changesPerBatch = 200;
const questions = 10;

/** iptables, and what of the kernel was read through it. */
function remembering(variant: IptablesVariant, namespace: Namespace): { iptables: Iptables; read: string[] } {
  const iptables = openIptables(ipv4, variant, namespace.name);
  const read: string[] = [];
  const save = iptables.save.bind(iptables);
  iptables.save = async (table) => {
    const text = await save(table);
    read.push(text);
    return text;
  };
  return { iptables, read };
}

for (const variant of ['nft', 'legacy'] as const) {
  test(`after each batch of 100,000 random changes, iptables-${variant}: what the kernel has is what a fresh start wants, and packets end where they should`, async () => {
    await withNamespace('random', async (namespace) => {
      const model = new ServiceModel(60, 3);
      const tracker = new ServiceTracker();
      const make = (iptables: Iptables): ProxyRules =>
        new ProxyRules({ family: ipv4, iptables, render, node: { name: nodeName }, log });
      const rules = make(openIptables(ipv4, variant, namespace.name));
      for (let batch = 0; batch < batches; batch++) {
        for (let change = 0; change < changesPerBatch; change++) tracker.apply(model.change());
        const changed = [...tracker.takeDirty().keys].map((key) => [key, tracker.state(key)] as const);
        await rules.sync(changed, batch === 0);
        const all = [...tracker.keys()].map((key) => [key, tracker.state(key)] as const);
        const { iptables, read } = remembering(variant, namespace);
        assert.equal((await make(iptables).sync(all, true)).bytes, 0, `batch ${batch}`);
        // It has written nothing: what it has read is what the kernel has.
        const world = worldOf(read.join(''), local);
        for (let question = 0; question < questions; question++) {
          const { packet, endings } = model.question(true);
          assert.deepEqual(walk(packet, world), endings, `batch ${batch}: ${JSON.stringify(packet)}`);
        }
      }
      assert.deepEqual([...rules.refusals], []);
    });
  });
}

const nftBatches = 30;

test('after each batch of 6,000 random changes, nftables: what the kernel has is what a fresh start wants, and packets end where they should', async () => {
  await withNamespace('random', async (namespace) => {
    const model = new ServiceModel(60, 3, 'nftables');
    const tracker = new ServiceTracker();
    const options = nftOptionsFor(ipv4, { nodeAddresses: [nodeAddress], nodePortAddresses: [nodeAddress] });
    const table = openNftTable(ipv4, tableName, namespace.name);
    const make = (): NftRules => new NftRules({ table, render: options, node: { name: nodeName }, log });
    const rules = make();
    for (let batch = 0; batch < nftBatches; batch++) {
      for (let change = 0; change < changesPerBatch; change++) tracker.apply(model.change());
      const changed = [...tracker.takeDirty().keys].map((key) => [key, tracker.state(key)] as const);
      await rules.sync(changed, batch === 0);
      const all = [...tracker.keys()].map((key) => [key, tracker.state(key)] as const);
      const installed = await readStanding(table);
      const fresh = new Ruleset(options);
      fresh.adopt(installed);
      for (const [key, state] of all) {
        const entries = serviceEntries(state, ipv4, { name: nodeName });
        fresh.setService(
          key,
          entries.map((entry) => renderServicePort(entry, options)),
        );
      }
      const wanted = { wanted: fresh.elements, installed: installed.elements };
      assert.deepEqual(
        [...allDifferences(wanted)].filter((one) => one !== undefined),
        [],
        `batch ${batch}`,
      );
      const world = await standingNftWorld(namespace, table, local);
      for (let question = 0; question < questions; question++) {
        const { packet, endings } = model.question(true);
        assert.deepEqual(walk(packet, world), endings, `batch ${batch}: ${JSON.stringify(packet)}`);
      }
    }
    table.close();
  });
});
