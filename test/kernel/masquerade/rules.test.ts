import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Iptables, openIptables } from '../../../src/kernel/iptables.ts';
import { chainDocument } from '../../../src/masquerade/plan/iptables.ts';
import { nftDocument, nftTableText } from '../../../src/masquerade/plan/nftables.ts';
import { nftTable, noRules, type TrafficRules, trafficChains } from '../../../src/masquerade/plan/rules.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { exampleTraffic } from '../../lab/traffic.ts';

/** What is to be written so that the rules stand; nothing when they do. */
async function missing(iptables: Iptables, rules: TrafficRules): Promise<string> {
  const documents = trafficChains.map(async (chain) => {
    const own = await iptables.list(chain.table, chain.name);
    const parent = (await iptables.list(chain.table, chain.parent)) ?? [];
    return chainDocument(chain, chain.rules(rules), rules.randomFully, { own, parent }) ?? '';
  });
  return (await Promise.all(documents)).join('');
}

for (const rules of exampleTraffic) {
  const { family } = rules;
  for (const variant of ['nft', 'legacy'] as const)
    test(`traffic rules read back as they were written: ${family.iptables}-${variant}`, () =>
      withNamespace('traffic', async (namespace) => {
        const iptables = openIptables(family, variant, namespace.name);
        await iptables.restore(await missing(iptables, rules));
        assert.equal(await missing(iptables, rules), '');
        for (const chain of trafficChains)
          for (const rule of (await iptables.list(chain.table, chain.name))!.slice(1))
            assert.ok(await iptables.has(chain.table, rule), rule);
        await iptables.restore(await missing(iptables, noRules(rules)));
        assert.equal(await missing(iptables, noRules(rules)), '');
        assert.doesNotMatch(await iptables.save('mangle'), /TWILL/);
      }));

  test(`traffic rules read back as they were written: nftables, ${family.name}`, () =>
    withNamespace('traffic', async (namespace) => {
      await namespace.exec('nft', ['-f', '-'], { input: nftDocument(rules) });
      const shown = await namespace.exec('nft', ['-s', 'list', 'table', family.nft, nftTable(family)]);
      assert.equal(shown, nftTableText(rules));
    }));

  for (const variant of ['nft', 'legacy'] as const)
    test(`the guard goes before what accepts packets: ${family.iptables}-${variant}`, () =>
      withNamespace('traffic', async (namespace) => {
        const iptables = openIptables(family, variant, namespace.name);
        await iptables.restore(await missing(iptables, rules));
        await iptables.restore('*mangle\n-I INPUT 1 -p udp -j ACCEPT\nCOMMIT\n');
        await iptables.restore(await missing(iptables, rules));
        const [, first, second] = (await iptables.list('mangle', 'INPUT'))!;
        assert.match(first!, /-j TWILL-GUARD-IN$/);
        assert.match(second!, /-j ACCEPT$/);
        assert.equal(await missing(iptables, rules), '');
      }));
}
