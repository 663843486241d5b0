import assert from 'node:assert/strict';
import { test } from 'node:test';
import pino from 'pino';
import { ipv4, ipv6, parseAddress } from '../../../src/model/address.ts';
import { ProxyInput, type ProxyInputOptions } from '../../../src/services/input.ts';
import { ProxyRules } from '../../../src/services/iptables/rules.ts';
import { nodePortAddresses, ownAddresses } from '../../../src/services/plan/nodeport-addresses.ts';
import type { NodeFacts } from '../../../src/services/plan/service.ts';
import { RefusingIptables } from '../../lab/refusing-iptables.ts';
import { renderOptionsFor, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const log = pino({ level: 'silent' });

function facts(more: Partial<NodeFacts>): NodeFacts {
  return { zone: undefined, addresses: [], podCIDRs: [], leaving: false, ...more };
}

function inputThatNeeds(...needs: ProxyInputOptions['needs']) {
  const told: string[] = [];
  const input = new ProxyInput({
    nodeName: 'node1',
    log,
    needs,
    onChange: (reason) => told.push(reason),
    onNode: () => told.push('renumbered'),
    onSkipped: () => {},
  });
  return { input, told };
}

test('nothing is written before the Node has pod networks, where they are needed; readiness says so', () => {
  const { input, told } = inputThatNeeds('podCIDRs');
  assert.match(input.waitingFor!, /list of Services and EndpointSlices/);
  input.replace('service', []);
  assert.match(input.waitingFor!, /list of EndpointSlices/);
  input.replace('slice', []);
  assert.equal(input.waitingFor, "the Node 'node1'");
  input.node(facts({ addresses: ['192.0.2.1'] }));
  assert.equal(input.waitingFor, "podCIDRs of the Node 'node1'");
  assert.deepEqual(told.splice(0), ['renumbered']);
  input.node(facts({ podCIDRs: ['10.244.1.0/24'] }));
  assert.equal(input.waitingFor, undefined);
  assert.deepEqual(told.splice(0), ['renumbered', 'node']);
});

test('pod networks are followed, and stay while the Node is gone or is made anew', () => {
  const { input, told } = inputThatNeeds('podCIDRs');
  input.replace('service', []);
  input.replace('slice', []);
  input.node(facts({ podCIDRs: ['10.244.1.0/24'], addresses: ['192.0.2.1'], zone: 'east' }));
  told.splice(0);
  input.node(undefined);
  assert.deepEqual(input.facts, facts({ podCIDRs: ['10.244.1.0/24'], addresses: ['192.0.2.1'] }));
  input.node(facts({ leaving: true }));
  assert.deepEqual(input.facts?.podCIDRs, ['10.244.1.0/24']);
  assert.equal(input.facts?.leaving, true);
  assert.deepEqual(told.splice(0), ['node'], 'the zone alone changed');
  input.node(facts({ podCIDRs: ['10.244.2.0/24'] }));
  assert.deepEqual(told.splice(0), ['renumbered', 'node']);
  assert.deepEqual(input.facts?.addresses, ['192.0.2.1']);
  assert.deepEqual(input.facts?.podCIDRs, ['10.244.2.0/24']);
});

test('an address that the proxy is told counts over what the Node says of its family', () => {
  const input = new ProxyInput({
    ...{ nodeName: 'node1', log, needs: [], onChange: () => {}, onNode: () => {}, onSkipped: () => {} },
    bindAddress: parseAddress('192.0.2.77'),
  });
  assert.deepEqual(input.facts, facts({ addresses: ['192.0.2.77'] }));
  input.node(facts({ addresses: ['192.0.2.1', '2001:db8::1'], zone: 'east' }));
  assert.deepEqual(input.facts, facts({ addresses: ['192.0.2.77', '2001:db8::1'], zone: 'east' }));
  const own = ['192.0.2.1', '192.0.2.77', '192.0.2.99', 'fe80::1', '2001:db8::1'];
  assert.deepEqual(ownAddresses(ipv4, own, input.facts), ['192.0.2.77']);
  // Where the Node names one family, the other has none: source ranges do not include the node by any address of it.
  assert.deepEqual(ownAddresses(ipv6, own, facts({ addresses: ['192.0.2.1'] })), []);
  assert.deepEqual(ownAddresses(ipv6, own.slice(3), undefined), ['2001:db8::1']);
  assert.deepEqual(nodePortAddresses('primary', ipv4, own.slice(0, 3), input.facts), ['192.0.2.77']);
});

test('rules that name pod networks or addresses of the node are made anew when these change', async () => {
  const iptables = new RefusingIptables();
  const render = renderOptionsFor(ipv4, { fromPod: '-s 10.244.1.0/24', nodeAddresses: ['192.0.2.1'] });
  const rules = new ProxyRules({ family: ipv4, iptables, render, node: { name: 'a' }, log });
  const ports = [{ name: 'http', port: 80, nodePort: 30_080 }];
  const states = new Map(
    [
      serviceObject('ns/plain', { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80 }] }),
      serviceObject('ns/local', {
        type: 'NodePort',
        clusterIP: '10.96.0.2',
        ports,
        externalTrafficPolicy: 'Local',
      }),
      serviceObject(
        'ns/limited',
        {
          type: 'LoadBalancer',
          clusterIP: '10.96.0.3',
          ports: [{ name: 'http', port: 80 }],
          loadBalancerSourceRanges: ['198.51.100.0/24'],
        },
        { status: { loadBalancer: { ingress: [{ ip: '203.0.113.1' }] } } },
      ),
    ].map((service) => {
      const name = (service.metadata as { name: string }).name;
      const slice = sliceObject(
        `ns/${name}`,
        [{ name: 'http', port: 8080 }],
        [{ ip: '10.244.1.2', node: 'a' }],
      );
      return stateOf(service, slice);
    }),
  );
  const sync = async (keys: Iterable<string>): Promise<string> => {
    await rules.sync(
      [...keys].map((key) => [key, states.get(key)!] as const),
      false,
    );
    return iptables.rules.save('nat');
  };
  assert.match(await sync(states.keys()), /-s 10\.244\.1\.0\/24 .*pod traffic for ns\/local/);
  assert.deepEqual(rules.configure(render), []);
  // The load balancer's address is admitted once the node is within the source ranges.
  const moved = { ...render, nodeAddresses: ['198.51.100.7', '192.0.2.1'] };
  const firewalled = rules.configure(moved);
  assert.deepEqual(firewalled, ['ns/limited']);
  assert.match(await sync(firewalled), /KUBE-FW-\S+ -s 203\.0\.113\.1\/32/);
  assert.deepEqual(rules.configure({ ...moved, nodeAddresses: ['192.0.2.1', '198.51.100.7'] }), []);
  const all = rules.configure({ ...moved, fromPod: '-s 10.244.2.0/24' });
  assert.deepEqual([...all].sort(), ['ns/limited', 'ns/local', 'ns/plain']);
  const saved = await sync(all);
  assert.match(saved, /-s 10\.244\.2\.0\/24 .*pod traffic for ns\/local/);
  assert.doesNotMatch(saved, /10\.244\.1\.0/);
});
