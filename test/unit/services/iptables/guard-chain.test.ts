import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4 } from '../../../../src/model/address.ts';
import { Ruleset } from '../../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

/** Rules of table filter for so many Services, each with one endpoint. */
function filterRules(count: number): string[] {
  const options = renderOptionsFor(ipv4);
  const ruleset = new Ruleset(options);
  for (let index = 0; index < count; index++) {
    const spec = { clusterIP: `10.96.${index >> 8}.${index & 255}`, ports: [{ port: 80 }] };
    const slice = sliceObject(`ns/s${index}`, [{ port: 8080 }], [{ ip: '10.244.1.2' }]);
    const [key, state] = stateOf(serviceObject(`ns/s${index}`, spec), slice);
    const entries = serviceEntries(state, ipv4, { name: 'node1' });
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, options)),
    );
  }
  ruleset.flush();
  return [...ruleset.chains.filter.values()].flatMap((text) => text.split('\n'));
}

for (const count of [1, 257, 442, 789, 1000])
  test(`nothing but ports of Services is dropped where they are missing in table nat: ${count} Services`, () => {
    const drops = filterRules(count).filter((rule) => /^-A KUBE-GUARD\S* .*-j DROP$/.test(rule));
    assert.equal(drops.length, count);
    for (const rule of drops)
      assert.match(rule, /^-A KUBE-GUARD -d 10\.96\.\d+\.\d+\/32 -p tcp -m tcp --dport 80 -j DROP$/);
  });

test('above a thousand there is no guard: each new connection of the node would pass it', () => {
  assert.deepEqual(
    filterRules(1001).filter((rule) => rule.startsWith('-A KUBE-GUARD')),
    [],
  );
});
