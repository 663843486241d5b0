import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Family, ipv4, ipv6 } from '../../../../src/model/address.ts';
import { renderDocument, tableChange } from '../../../../src/services/iptables/plan/document.ts';
import { jumps, localnetJumps, tables } from '../../../../src/services/iptables/plan/names.ts';
import type { OptionalMatch } from '../../../../src/services/iptables/plan/options.ts';
import { Ruleset } from '../../../../src/services/iptables/plan/ruleset.ts';
import { renderServicePort } from '../../../../src/services/iptables/plan/service-rules.ts';
import { serviceEntries } from '../../../../src/services/plan/table.ts';
import { facts } from '../../../lab/kube-proxy-facts.ts';
import { type ApiState, kubeProxyEndings, type NodeSetting } from '../../../lab/kube-proxy-reading.ts';
import { type Packet, simulatedWorld, walk } from '../../../lab/packet-walker.ts';
import {
  type EndpointSpec,
  renderOptionsFor,
  serviceObject,
  sliceObject,
  stateOf,
} from '../../../lab/service-fixtures.ts';
import {
  type Addresses,
  addressesOf,
  isDistantHairpin,
  manners,
  nodeIn,
  packetsIn,
  type WorldState,
  worldStates,
} from '../../../lab/service-world.ts';
import { SimulatedIptables } from '../../../lab/simulated-iptables.ts';

interface Setting {
  readonly family: Family;
  readonly at: Addresses;
  readonly node: NodeSetting;
  readonly matches: readonly OptionalMatch[];
}

function rulesFor(states: readonly ApiState[], { family, at, node, matches }: Setting): SimulatedIptables {
  const options = renderOptionsFor(family, {
    fromPod: node.isPod === undefined ? undefined : `-s ${at.pods}`,
    masqueradeAll: node.masqueradeAll === true,
    localhostNodePorts: node.localhostNodePorts === true,
    nodePortAddresses: node.nodePortAddresses,
    nodeAddresses: [node.address],
    matches,
  });
  const ruleset = new Ruleset(options);
  for (const { service, slices } of states) {
    const [key, parsed] = stateOf(
      service as unknown as Record<string, unknown>,
      ...(slices as unknown as Record<string, unknown>[]),
    );
    const entries = serviceEntries(parsed, family, node);
    ruleset.setService(
      key,
      entries.map((entry) => renderServicePort(entry, options)),
    );
  }
  ruleset.flush();
  const wanted = options.localhostNodePorts ? [...localnetJumps, ...jumps] : jumps;
  const rules = new SimulatedIptables();
  rules.restore(
    renderDocument(
      tables.map((table) => {
        const desired = ruleset.chains[table];
        const missing = wanted.filter((jump) => jump.table === table);
        return tableChange(
          table,
          desired.keys(),
          { desired, installed: new Map() },
          { missing, surplus: [] },
        );
      }),
    ),
  );
  return rules;
}

/** Of most manners some of the states, other ones each time: all would take minutes. */
function statesIn(turn: number, states: readonly WorldState[]): readonly WorldState[] {
  return turn === 0 ? states : states.filter((_, number) => (number + turn) % 21 === 0);
}

describe('what kube-proxy’s own tests state holds of our reading of it, and of the rules', () => {
  const at = addressesOf.ipv4;
  for (const { what, spec, endpoints, packet: part, endings, ...manner } of facts) {
    test(what, () => {
      const node = nodeIn({ what, ...manner }, at);
      const packet: Packet = { ...part, protocol: 'tcp' };
      const status = { loadBalancer: { ingress: [{ ip: at.balancer }] } };
      const service = serviceObject('shop/web', spec, { status });
      const slice = sliceObject('shop/web', [{ name: 'http', port: 8080, protocol: 'TCP' }], endpoints);
      const state = { service, slices: [slice] } as unknown as ApiState;
      assert.deepEqual(kubeProxyEndings([state], node, packet), endings, 'the reading');
      const rules = rulesFor([state], { family: ipv4, at, node, matches: ['bpf'] });
      assert.deepEqual(walk(packet, simulatedWorld(rules, node.local)), endings, 'the rules');
    });
  }
});

describe('an external address that is another Service’s cluster address', () => {
  const at = addressesOf.ipv4;
  const node = nodeIn(manners[0]!, at);
  const behind = { 'no endpoint': [], 'an endpoint here': [{ ip: at.here, node: 'node-a' }] };
  const made = (
    name: string,
    spec: Record<string, unknown>,
    port: number,
    ip: readonly EndpointSpec[],
  ): ApiState => {
    const ports = [{ name: 'http', port, protocol: 'TCP' }];
    const slice = sliceObject(name, [{ name: 'http', port: 8080, protocol: 'TCP' }], ip);
    return { service: serviceObject(name, { ...spec, ports }), slices: [slice] } as unknown as ApiState;
  };
  for (const [own, ownEndpoints] of Object.entries(behind)) {
    for (const [others, otherEndpoints] of Object.entries(behind)) {
      for (const port of [80, 81]) {
        test(`${own} behind its owner, ${others} behind the other, at port ${port}`, () => {
          const states = [
            made('shop/owner', { clusterIP: at.clusterIP }, 80, ownEndpoints),
            made(
              'shop/other',
              { clusterIP: '10.96.0.11', externalIPs: [at.clusterIP] },
              port,
              otherEndpoints,
            ),
          ];
          const rules = rulesFor(states, { family: ipv4, at, node, matches: ['bpf'] });
          const world = simulatedWorld(rules, node.local);
          for (const packet of packetsIn(node, at))
            assert.deepEqual(
              walk(packet, world),
              kubeProxyEndings(states, node, packet),
              JSON.stringify(packet),
            );
        });
      }
    }
  }
});

for (const family of [ipv4, ipv6]) {
  const at = addressesOf[family.name];
  const states = worldStates(at);
  describe(`${states.length} states of a Service, ${family.kubeName}: packets end where kube-proxy's rules send them`, () => {
    assert.ok(states.length >= 150);
    for (const [index, manner] of manners.entries()) {
      for (const matches of [['bpf', 'nfacct'], []] as const) {
        test(`${manner.what}, ${matches.length > 0 ? 'with all matches' : 'with the usual matches'}`, () => {
          const turn = index + (family === ipv4 ? 0 : 7) + (matches.length > 0 ? 0 : 14);
          const node = nodeIn(manner, at);
          const setting: Setting = { family, at, node, matches };
          const packets = packetsIn(node, at);
          const wrong: string[] = [];
          for (const state of statesIn(turn, states)) {
            const rules = rulesFor([state], setting);
            const world = simulatedWorld(rules, node.local, node.forwards);
            for (const packet of packets) {
              // Without the match that compares addresses it is not seen.
              if (matches.length === 0 && isDistantHairpin(state, packet, at)) continue;
              const found = walk(packet, world);
              const wanted = kubeProxyEndings([state], node, packet);
              if (found.join() !== wanted.join())
                wrong.push(`${state.what}: ${JSON.stringify(packet)} ends at ${found}, not ${wanted}`);
            }
          }
          assert.deepEqual(wrong.slice(0, 10), [], `${wrong.length} differ`);
        });
      }
    }
  });
}
