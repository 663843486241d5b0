import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4 } from '../../../../src/model/address.ts';
import {
  parseSaved,
  renderDocument,
  ruleCount,
  tableChange,
} from '../../../../src/services/iptables/plan/document.ts';
import { jumps, tables } from '../../../../src/services/iptables/plan/names.ts';
import { inPortions } from '../../../../src/services/iptables/plan/portions.ts';
import { Ruleset } from '../../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { ServiceTracker } from '../../../../src/services/plan/tracker.ts';
import { renderOptionsFor } from '../../../lab/service-fixtures.ts';
import { nodeName, ServiceModel } from '../../../lab/service-model.ts';
import { SimulatedIptables } from '../../../lab/simulated-iptables.ts';

const options = renderOptionsFor(ipv4);

/** Applies what changed, whole or in portions, and says how many transactions with how many rules of nat it took. */
function apply(ruleset: Ruleset, rules: SimulatedIptables, limit: number, first: boolean): number[] {
  const changed = ruleset.flush();
  const changes = tables.map((table) => {
    const missing = first ? jumps.filter((jump) => jump.table === table) : [];
    const state = { desired: ruleset.chains[table], installed: parseSaved(rules.save(table)).chains };
    return tableChange(table, changed[table], state, { missing, surplus: [] });
  });
  return inPortions(changes, limit).map((portion) => {
    rules.restore(renderDocument(portion)); // refuses a jump to a chain that is not there
    const nat = portion.find(({ table }) => table === 'nat');
    return (nat?.write ?? []).reduce((sum, [, text]) => sum + ruleCount(text), 0);
  });
}

test('a large change in portions leads to the rules one transaction leads to, at the start and later', () => {
  const model = new ServiceModel(1500, 7);
  const tracker = new ServiceTracker();
  const worlds = [200, Number.POSITIVE_INFINITY].map((limit) => ({
    limit,
    ruleset: new Ruleset(options),
    rules: new SimulatedIptables(),
  }));
  for (const [round, count] of [20_000, 4000].entries()) {
    for (let change = 0; change < count; change++) tracker.apply(model.change());
    const { keys } = tracker.takeDirty();
    const sizes = worlds.map(({ ruleset, rules, limit }) => {
      for (const key of keys) {
        const entries = serviceEntries(tracker.state(key), ipv4, { name: nodeName });
        ruleset.setService(
          key,
          entries.map((entry) => renderServicePort(entry, options)),
        );
      }
      return apply(ruleset, rules, limit, round === 0);
    });
    for (const table of tables) assert.equal(worlds[0]!.rules.save(table), worlds[1]!.rules.save(table));
    assert.equal(sizes[1]!.length, 1);
    assert.ok(sizes[0]!.length > 5, `${sizes[0]!.length} portions`);
    // One root with all it leads to may go beyond the limit: a chain for 1/256 of the addresses and its Services.
    const inner = sizes[0]!.slice(0, -1);
    assert.ok(Math.max(0, ...inner) < 400, `portions of ${inner.join()} rules`);
  }
});
