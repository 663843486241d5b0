import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4 } from '../../../../src/model/address.ts';
import { GuardedPorts } from '../../../../src/services/iptables/plan/guard-chain.ts';
import { Ruleset } from '../../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

const options = renderOptionsFor(ipv4);

/** @param address number of its cluster address */
function setService(ruleset: Ruleset, name: string, address: number): void {
  const spec = { clusterIP: `10.96.${address >> 8}.${address & 255}`, ports: [{ port: 80 }] };
  const slice = sliceObject(name, [{ port: 8080 }], [{ ip: '10.244.1.2' }]);
  const [key, state] = stateOf(serviceObject(name, spec), slice);
  const entries = serviceEntries(state, ipv4, { name: 'node1' });
  ruleset.setService(
    key,
    entries.map((entry) => renderServicePort(entry, options)),
  );
}

/** So many Services, each with one endpoint. */
function servicesOf(count: number): Ruleset {
  const ruleset = new Ruleset(options);
  for (let index = 0; index < count; index++) setService(ruleset, `ns/s${index}`, index);
  return ruleset;
}

function filterRulesOf(ruleset: Ruleset): string[] {
  ruleset.flush();
  return [...ruleset.chains.filter.values()].flatMap((text) => text.split('\n'));
}

/** Rules of table filter for so many Services. */
function filterRules(count: number): string[] {
  return filterRulesOf(servicesOf(count));
}

function guardRules(ruleset: Ruleset): string[] {
  return filterRulesOf(ruleset).filter((rule) => rule.startsWith('-A KUBE-GUARD'));
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

test('the guard comes and goes with the thousandth port', () => {
  const ruleset = servicesOf(1001);
  const counts = [guardRules(ruleset).length];
  ruleset.setService('ns/s7', []);
  counts.push(guardRules(ruleset).length);
  setService(ruleset, 'ns/s7', 7);
  counts.push(guardRules(ruleset).length);
  assert.deepEqual(counts, [0, 1000, 0]);
});

test('a port that two Services claim is guarded once, and until both are gone', () => {
  const ruleset = servicesOf(1);
  setService(ruleset, 'ns/other', 0);
  const rule = '-A KUBE-GUARD -d 10.96.0.0/32 -p tcp -m tcp --dport 80 -j DROP';
  assert.deepEqual(guardRules(ruleset), [rule]);
  ruleset.setService('ns/s0', []);
  assert.deepEqual(guardRules(ruleset), [rule]);
  assert.equal(ruleset.guards('10.96.0.0'), true);
  ruleset.setService('ns/other', []);
  assert.deepEqual(guardRules(ruleset), []);
  assert.equal(ruleset.guards('10.96.0.0'), false);
});

test('ports of one address come and go one by one, those that differ in the protocol alone too', () => {
  const guard = new GuardedPorts();
  const address = '10.96.0.1';
  const port = (number: number, protocol = 'tcp') => ({ address, protocol, port: number });
  for (const one of [port(80), port(53, 'udp'), port(53), port(80)]) guard.add(one);
  const rules = (...ends: string[]): string =>
    ends.map((end) => `-A KUBE-GUARD -d ${address}/32 ${end}`).join('\n');
  const [dns, web] = ['-p tcp -m tcp --dport 53 -j DROP', '-p tcp -m tcp --dport 80 -j DROP'];
  assert.equal(guard.flush(), rules(dns, web, '-p udp -m udp --dport 53 -j DROP'));
  // What is wanted twice and once less is no change.
  guard.remove(port(80));
  assert.equal(guard.flush(), undefined);
  guard.remove(port(53, 'udp'));
  assert.equal(guard.flush(), rules(dns, web));
  guard.remove(port(80));
  guard.remove(port(53));
  assert.equal(guard.flush(), '');
  assert.equal(guard.hasAddress(address), false);
});

test('a rule of the guard that is refused is the doing of the Service whose port it names', () => {
  const ruleset = servicesOf(20);
  assert.equal(ruleset.ownerOf('-A KUBE-GUARD -d 10.96.0.13/32 -p tcp -m tcp --dport 80 -j DROP'), 'ns/s13');
});
