import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4 } from '../../../../src/model/address.ts';
import { setNames } from '../../../../src/services/nftables/plan/names.ts';
import { Ruleset } from '../../../../src/services/nftables/plan/ruleset.ts';
import { type PortRules, renderServicePort } from '../../../../src/services/nftables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { seeded } from '../../../lab/random.ts';
import { nftOptionsFor, serviceObject, sliceObject, stateOf } from '../../../lab/service-fixtures.ts';

const options = nftOptionsFor(ipv4);

/** A Service of chance: its protocol, its affinity, policies, and any of its endpoints. */
function chance(key: string, number: number, below: (limit: number) => number): PortRules[] {
  const protocol = ['TCP', 'UDP', 'SCTP'][below(6)] ?? 'TCP';
  const ips = Array.from({ length: 8 }, (_, at) => ({
    ip: `10.244.0.${at}`,
    node: at % 3 === 0 ? 'n' : 'm',
  }));
  const [, state] = stateOf(
    serviceObject(key, {
      type: 'LoadBalancer',
      clusterIP: `10.96.0.${number}`,
      externalTrafficPolicy: below(2) === 0 ? 'Local' : 'Cluster',
      sessionAffinity: below(3) === 0 ? 'ClientIP' : 'None',
      ports: [{ name: 'p', port: 80, nodePort: 30_000 + number, protocol }],
    }),
    sliceObject(
      key,
      [{ name: 'p', port: 8080, protocol }],
      ips.filter(() => below(2) === 0),
    ),
  );
  return serviceEntries(state, ipv4, { name: 'n' }).map((entry) => renderServicePort(entry, options));
}

test('whatever changes of a Service, its elements are those of its endpoints, and all that change are named', () => {
  const below = seeded(20_261_127);
  const ruleset = new Ruleset(options);
  // Compared as a whole at first.
  const mirror = structuredClone(ruleset.elements);
  ruleset.takeTouched();
  const all = new Map<string, readonly PortRules[]>();
  for (let round = 0; round < 500; round++) {
    const number = below(5);
    const key = `ns/s${number}`;
    const rules = below(9) === 0 ? [] : chance(key, number, below);
    ruleset.setService(key, rules);
    all.set(key, rules);
    for (const [set, keys] of ruleset.takeTouched()) {
      for (const name of keys) {
        const data = ruleset.elements[set].get(name);
        data === undefined ? mirror[set].delete(name) : mirror[set].set(name, data);
      }
    }
    assert.deepEqual(mirror, ruleset.elements);
    const ports = [...all.values()].flat();
    const endpoints = ports
      .filter(({ sticky }) => !sticky)
      .flatMap(({ protocol, backends }) =>
        [...backends.cluster, ...backends.local].map((backend) => `${protocol} ${backend}`),
      );
    const standing = (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) =>
      [...mirror[`endpoints-${protocol}`].values()].map((backend) => `${protocol} ${backend}`),
    );
    assert.deepEqual(standing.sort(), endpoints.sort());
    const remembered = ports.filter(({ sticky }) => sticky).map(({ backends }) => backends);
    assert.equal(
      mirror.slots.size,
      remembered.reduce((sum, { cluster, local }) => sum + cluster.length + local.length, 0),
    );
  }
  for (const key of all.keys()) ruleset.setService(key, []);
  for (const set of setNames) if (set !== 'node-addresses') assert.equal(ruleset.elements[set].size, 0, set);
});
