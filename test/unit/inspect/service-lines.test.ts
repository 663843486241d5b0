import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wantedChains } from '../../../src/inspect/plan/service-lines.ts';
import { ipv4 } from '../../../src/model/address.ts';
import { Ruleset } from '../../../src/services/iptables/plan/ruleset.ts';
import { type Fragment, renderServicePort } from '../../../src/services/iptables/plan/service-rules.ts';
import { FLAT_LIMIT } from '../../../src/services/iptables/plan/shared-chain.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const options = renderOptionsFor(ipv4);

function fragmentsOf(index: number): Fragment[] {
  const spec = {
    clusterIP: `10.96.${index >> 8}.${index & 255}`,
    type: 'NodePort',
    ports: [{ port: 80, nodePort: 30_000 + index }],
  };
  const slice = sliceObject(`ns/s${index}`, [{ port: 8080 }], [{ ip: '10.244.1.2' }]);
  const [, state] = stateOf(serviceObject(`ns/s${index}`, spec), slice);
  return serviceEntries(state, ipv4, { name: 'node1' }).map((entry) => renderServicePort(entry, options));
}

/** The rules of one of so many Services, each with a node port and an endpoint. */
function rulesOfOne(count: number, index: number): string[] {
  const ruleset = new Ruleset(options);
  for (let each = 0; each < count; each++) ruleset.setService(`ns/s${each}`, fragmentsOf(each));
  ruleset.flush();
  return wantedChains(fragmentsOf(index)).flatMap(({ table, chain, isOurs }) =>
    (ruleset.chains[table].get(chain) ?? '')
      .split('\n')
      .filter(isOurs)
      .map((rule) => rule.replaceAll(/KUBE-(SVC|EXT)-[A-Z2-7]{16}/g, 'KUBE-$1')),
  );
}

const dnat = '-A KUBE-SVC -p tcp -j DNAT --to-destination 10.244.1.2:8080';
const external = [
  '-A KUBE-EXT -m comment --comment "masquerade traffic for ns/s300 external destinations" -j KUBE-MARK-MASQ',
  '-A KUBE-EXT -j KUBE-SVC',
];

test('the rules of a Service are found in the order in which a packet meets them', () => {
  assert.deepEqual(rulesOfOne(301, 300), [
    '-A KUBE-SERVICES -d 10.96.1.44/32 -p tcp -m comment --comment "ns/s300 cluster IP" -m tcp --dport 80 -j KUBE-SVC',
    '-A KUBE-NODEPORTS -p tcp -m comment --comment "ns/s300" -m tcp --dport 30300 -j KUBE-EXT',
    ...external,
    dnat,
    '-A KUBE-GUARD -d 10.96.1.44/32 -p tcp -m tcp --dport 80 -j DROP',
  ]);
});

test('the rules of a Service are found where the chains that Services share are divided', () => {
  assert.deepEqual(rulesOfOne(FLAT_LIMIT + 1, 300), [
    '-A KUBE-SERVICES-a2c -d 10.96.1.44/32 -p tcp -m tcp --dport 80 -j KUBE-SVC',
    '-A KUBE-NODEPORTS-p1d9 -p tcp -m tcp --dport 30300 -j KUBE-EXT',
    ...external,
    dnat,
  ]);
});
