import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePrefix } from '../../../src/model/address.ts';
import type { PodRecord } from '../../../src/pods/plan/pod.ts';
import type { PluginRules } from '../../../src/pods/plan/portmap.ts';
import { areDead, areOf, displacedBy, tracesOf } from '../../../src/pods/plan/remains.ts';

const key = { network: 'cbr0', containerId: 'old', ifname: 'eth0' };

function pod(containerId: string, address: string, change: Partial<PodRecord> = {}): PodRecord {
  const addresses = [{ address: `${address}/24`, gateway: '10.244.7.1' }];
  return {
    network: 'twill',
    containerId,
    ifname: 'eth0',
    addresses,
    portMappings: [],
    ...change,
  } as PodRecord;
}

const file = (address: string, network = 'cbr0') => ({
  network,
  address,
  containerId: 'old',
  ifname: 'eth0',
});

test('a pod’s traces are its own addresses and networks, not those that are another’s by now', () => {
  const record = pod('old', '10.244.7.2');
  const all = [record, pod('new', '10.244.7.3')];
  const { addresses, networks } = tracesOf(key, record, [file('10.244.7.2'), file('10.244.7.3', 'n')], all);
  assert.deepEqual([...addresses], ['10.244.7.2']);
  assert.deepEqual([...networks], ['cbr0', 'twill', 'n']);
  assert.deepEqual(tracesOf(key, undefined, [], all), {
    addresses: new Set(),
    networks: new Set(['cbr0', '']),
  });
  // Another interface of the same container.
  const second = tracesOf(key, undefined, [file('10.244.7.2')], all);
  assert.deepEqual([...second.addresses], ['10.244.7.2']);
});

const rules = (containerId: string, addresses: readonly string[], more = {}): PluginRules => ({
  name: 'CNI-0123456789',
  network: 'cbr0',
  containerId,
  addresses,
  ...more,
});

test('rules are of the interface that they name, or whose address they are about', () => {
  const own = new Set(['10.244.7.2']);
  const cases: readonly (readonly [what: string, rules: PluginRules, addresses: Set<string>, is: boolean])[] =
    [
      ['its container and address', rules('old', ['10.244.7.2']), own, true],
      ['its container, no address', rules('old', []), own, true],
      ['its container, another address', rules('old', ['10.99.0.2']), own, false],
      ['its container, another address, none known', rules('old', ['10.99.0.2']), new Set(), true],
      ['another container, its address', rules('new', ['10.244.7.2']), own, false],
      ['no container, its address', rules('', ['10.244.7.2']), own, true],
      ['no container, another address', rules('', ['10.244.7.3']), own, false],
      ['no container, none known', rules('', []), new Set(), false],
      ['another interface', rules('old', ['10.244.7.2'], { ifname: 'net1' }), own, false],
      ['a name that is cut', rules('ol', ['10.244.7.2'], { isCut: true }), own, true],
      ['a short name that is whole', rules('ol', ['10.244.7.2']), own, false],
    ];
  for (const [what, one, addresses, is] of cases) assert.equal(areOf(one, key, addresses), is, what);
});

test('rules are dead where neither their container stands nor anybody has their addresses', () => {
  const subnets = [parsePrefix('10.244.7.0/24'), parsePrefix('fd00:244:0:7::/64')];
  const standing = [
    pod('alive', '10.244.7.3'),
    pod('unknown-veth9', '10.244.7.4', { adopted: true }),
    pod('old', '10.244.7.5', { adopted: true }),
  ];
  const cases: readonly (readonly [what: string, rules: PluginRules, is: boolean])[] = [
    ['gone', rules('gone', ['10.244.7.2']), true],
    ['gone, of both families', rules('gone', ['10.244.7.2', 'fd00:244:0:7::2']), true],
    ['its container stands', rules('alive', ['10.244.7.2']), false],
    ['its address is a new pod’s', rules('gone', ['10.244.7.3']), true],
    ['without a container, its address is a pod’s', rules('', ['10.244.7.3']), false],
    ['without a container, nobody’s address', rules('', ['10.244.7.9']), true],
    ['its address is a pod’s of which no name is known', rules('gone', ['10.244.7.4']), false],
    ['its address is held', rules('gone', ['10.244.7.6']), false],
    ['another subnet', rules('gone', ['10.99.0.2']), false],
    ['partly another subnet', rules('gone', ['10.244.7.2', '10.99.0.2']), false],
    ['about no address', rules('gone', []), false],
  ];
  for (const [what, one, is] of cases)
    assert.equal(areDead(one, standing, ['10.244.7.6'], subnets), is, what);
});

test('only adopted pods give way, by protocol and port', () => {
  const mapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' } as const;
  const adopted = { adopted: true, portMappings: [mapping] };
  const all = [
    pod('a', '10.244.7.2', adopted),
    pod('b', '10.244.7.3', { portMappings: [mapping] }),
    pod('c', '10.244.7.4', { ...adopted, portMappings: [{ ...mapping, protocol: 'udp' }] }),
  ];
  assert.deepEqual([...displacedBy([{ ...mapping, containerPort: 81 }], all)], ['10.244.7.2']);
  assert.equal(displacedBy([], all).size, 0);
});
