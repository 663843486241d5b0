import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ipv4, ipv6 } from '../../../src/model/address.ts';
import { parseEndpointSlice, parseService } from '../../../src/services/plan/parse.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { ServiceTracker } from '../../../src/services/plan/tracker.ts';
import { type EndpointSpec, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const node = { name: 'here', zone: 'z1' };
const http = [{ name: '', port: 8080 }];
const cluster = { clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
const external = {
  ...cluster,
  type: 'NodePort',
  ports: [{ port: 80, nodePort: 30_000 }],
  externalTrafficPolicy: 'Local',
};
const draining = { ready: false, serving: true, terminating: true };
const dead = { ready: false, serving: false, terminating: true };

interface Row {
  readonly what: string;
  readonly spec?: Record<string, unknown>;
  readonly endpoints: readonly EndpointSpec[];
  readonly cluster: readonly string[];
  readonly local?: readonly string[];
  readonly has?: boolean;
}

const rows: readonly Row[] = [
  { what: 'no endpoints', endpoints: [], cluster: [], has: false },
  {
    what: 'ready ones win over draining ones',
    endpoints: [{ ip: '10.0.0.1' }, { ip: '10.0.0.2', ...draining }],
    cluster: ['10.0.0.1'],
  },
  {
    what: 'draining ones serve when nothing is ready',
    endpoints: [
      { ip: '10.0.0.1', ...dead },
      { ip: '10.0.0.2', ...draining },
    ],
    cluster: ['10.0.0.2'],
  },
  {
    what: 'one that is neither ready nor terminating is unused',
    endpoints: [{ ip: '10.0.0.1', ready: false }],
    cluster: [],
    has: false,
  },
  {
    what: 'zone hints that include this zone',
    endpoints: [
      { ip: '10.0.0.1', zones: ['z1'] },
      { ip: '10.0.0.2', zones: ['z2'] },
    ],
    cluster: ['10.0.0.1'],
  },
  {
    what: 'zone hints without this zone are ignored',
    endpoints: [
      { ip: '10.0.0.1', zones: ['z3'] },
      { ip: '10.0.0.2', zones: ['z2'] },
    ],
    cluster: ['10.0.0.1', '10.0.0.2'],
  },
  {
    what: 'incomplete hints are ignored',
    endpoints: [{ ip: '10.0.0.1', zones: ['z1'] }, { ip: '10.0.0.2' }],
    cluster: ['10.0.0.1', '10.0.0.2'],
  },
  {
    what: 'node hints come before zone hints',
    endpoints: [
      { ip: '10.0.0.1', zones: ['z1'], hintNodes: ['here'] },
      { ip: '10.0.0.2', zones: ['z1'], hintNodes: ['there'] },
    ],
    cluster: ['10.0.0.1'],
  },
  {
    what: 'external Local keeps cluster endpoints for pods',
    spec: external,
    endpoints: [
      { ip: '10.0.0.1', node: 'here' },
      { ip: '10.0.0.2', node: 'there' },
    ],
    cluster: ['10.0.0.1', '10.0.0.2'],
    local: ['10.0.0.1'],
  },
  {
    what: 'external Local falls back to draining local ones',
    spec: external,
    endpoints: [
      { ip: '10.0.0.1', node: 'here', ...draining },
      { ip: '10.0.0.2', node: 'there' },
    ],
    cluster: ['10.0.0.2'],
    local: ['10.0.0.1'],
  },
  {
    what: 'external Local without external address is Cluster',
    spec: { ...cluster, externalTrafficPolicy: 'Local' },
    endpoints: [{ ip: '10.0.0.1', node: 'here' }],
    cluster: ['10.0.0.1'],
  },
  {
    what: 'internal Local uses local ones only',
    spec: { ...cluster, internalTrafficPolicy: 'Local' },
    endpoints: [
      { ip: '10.0.0.1', node: 'here' },
      { ip: '10.0.0.2', node: 'there' },
    ],
    cluster: [],
    local: ['10.0.0.1'],
  },
  {
    what: 'internal Local with none here',
    spec: { ...cluster, internalTrafficPolicy: 'Local' },
    endpoints: [{ ip: '10.0.0.2', node: 'there' }],
    cluster: [],
    local: [],
    has: true,
  },
];

describe('usable endpoints', () => {
  for (const row of rows) {
    test(row.what, () => {
      const [, state] = stateOf(
        serviceObject('ns/a', row.spec ?? cluster),
        sliceObject('ns/a', http, row.endpoints),
      );
      const [entry] = serviceEntries(state, ipv4, node);
      assert.deepEqual(
        entry!.clusterBackends.map((backend) => backend.address),
        row.cluster,
      );
      assert.deepEqual(
        entry!.localBackends.map((backend) => backend.address),
        row.local ?? [],
      );
      assert.equal(entry!.hasEndpoints, row.has ?? true);
    });
  }

  test('an endpoint in two slices counts once, and its usable appearance counts', () => {
    const [, state] = stateOf(
      serviceObject('ns/a', cluster),
      sliceObject('ns/a/1', http, [{ ip: '10.0.0.1', ready: false }]),
      sliceObject('ns/a/2', http, [{ ip: '10.0.0.1' }, { ip: '10.0.0.2' }]),
      sliceObject('ns/a/3', http, [{ ip: '10.0.0.2', ready: false }]),
    );
    assert.deepEqual(
      serviceEntries(state, ipv4, node)[0]!.clusterBackends.map((backend) => backend.address),
      ['10.0.0.1', '10.0.0.2'],
    );
  });

  test('of two at one address the one that does not end counts, with its node and hints, ready or not', () => {
    const local = { ...external, internalTrafficPolicy: 'Local' };
    const chosen = (...endpoints: readonly EndpointSpec[]): unknown => {
      const slices = endpoints.map((endpoint, index) => sliceObject(`ns/a/${index}`, http, [endpoint]));
      const entries = [slices, [...slices].reverse()].map((order) => {
        const [, state] = stateOf(serviceObject('ns/a', local), ...order);
        const [entry] = serviceEntries(state, ipv4, node);
        return [entry!.clusterBackends.length, entry!.localBackends.length, entry!.hasEndpoints];
      });
      assert.deepEqual(entries[0], entries[1], 'whatever the order of slices');
      return entries[0];
    };
    const ip = '10.0.0.1';
    assert.deepEqual(chosen({ ip, node: 'here', ...draining }, { ip, node: 'there' }), [1, 0, true]);
    assert.deepEqual(chosen({ ip, node: 'here' }, { ip, node: 'there', ...draining }), [1, 1, true]);
    assert.deepEqual(chosen({ ip, node: 'here', ready: false }, { ip, node: 'here', ...draining }), [
      0,
      0,
      false,
    ]);
    const ready = { ready: true, serving: true, terminating: true };
    assert.deepEqual(chosen({ ip, node: 'here', ready: false }, { ip, node: 'here', ...ready }), [
      0,
      0,
      false,
    ]);
    assert.deepEqual(chosen({ ip, node: 'there', ready: false }, { ip, node: 'here' }), [1, 1, true]);
  });

  test('a source range that holds everybody is no firewall', () => {
    const ranges = (...loadBalancerSourceRanges: string[]): readonly string[] => {
      const spec = { ...cluster, type: 'LoadBalancer', loadBalancerSourceRanges };
      return serviceEntries(stateOf(serviceObject('ns/a', spec))[1], ipv4, node)[0]!.sourceRanges;
    };
    assert.deepEqual(ranges('192.0.2.0/24', '0.0.0.0/0'), []);
    assert.deepEqual(ranges('192.0.2.0/24', '::/0'), ['192.0.2.0/24']);
  });

  test('each slice has its own number for a named port', () => {
    const spec = { clusterIP: '10.96.0.1', ports: [{ name: 'web', port: 80 }] };
    const [, state] = stateOf(
      serviceObject('ns/a', spec),
      sliceObject(
        'ns/a/1',
        [
          { name: 'web', port: 8080 },
          { name: 'other', port: 1 },
        ],
        [{ ip: '10.0.0.1' }],
      ),
      sliceObject('ns/a/2', [{ name: 'web', port: 9090 }], [{ ip: '10.0.0.2' }]),
    );
    assert.deepEqual(
      serviceEntries(state, ipv4, node)[0]!.clusterBackends.map(({ address, port }) => `${address}:${port}`),
      ['10.0.0.1:8080', '10.0.0.2:9090'],
    );
  });
});

describe('the tracker', () => {
  const service = parseService(serviceObject('ns/a', cluster)).value;
  const slice = (...ips: string[]) =>
    parseEndpointSlice(
      sliceObject(
        'ns/a',
        http,
        ips.map((ip) => ({ ip })),
      ),
    )!.value;

  test('does not count what says the same again', () => {
    const tracker = new ServiceTracker();
    tracker.replace('service', [service]);
    tracker.replace('slice', [slice('10.0.0.1')]);
    tracker.takeDirty();
    tracker.replace('service', [parseService(serviceObject('ns/a', cluster)).value]);
    tracker.replace('slice', [slice('10.0.0.1')]);
    assert.equal(tracker.takeDirty().keys.size, 0);
    tracker.replace('slice', [slice('10.0.0.2')]);
    assert.deepEqual([...tracker.takeDirty().keys], ['ns/a']);
  });

  test('counts whatever is another in a Service or slice but the time of the change', () => {
    const first = slice('10.0.0.1', '10.0.0.2');
    const [one, two] = first.endpoints;
    const others: readonly (readonly ['service' | 'slice', object, number])[] = [
      ['service', { ...service, affinitySeconds: 1 }, 1],
      ['service', { ...service, clusterIPs: [...service.clusterIPs, 'fd00::1'] }, 1],
      ['service', { ...service, ports: [{ ...service.ports[0]!, nodePort: 30_000 }] }, 1],
      ['slice', { ...first, changedAt: 1 }, 0],
      ['slice', { ...first, family: ipv6 }, 1],
      ['slice', { ...first, endpoints: [two, one] }, 1],
      ['slice', { ...first, endpoints: [one] }, 1],
      ['slice', { ...first, endpoints: [one, { ...two, ready: false }] }, 1],
      ['slice', { ...first, endpoints: [one, { ...two, zoneHints: [] }] }, 1],
      ['slice', { ...first, endpoints: [one, { ...two }] }, 0],
    ];
    for (const [kind, value, changes] of others) {
      const tracker = new ServiceTracker();
      tracker.replace('service', [service]);
      tracker.replace('slice', [first]);
      tracker.takeDirty();
      tracker.replace(kind, [value as never]);
      assert.equal(tracker.takeDirty().keys.size, changes, JSON.stringify(value, ['endpoints', 'ready']));
    }
  });

  test('a new list removes what it does not hold', () => {
    const tracker = new ServiceTracker();
    tracker.replace('service', [service]);
    tracker.replace('slice', [slice('10.0.0.1')]);
    tracker.takeDirty();
    tracker.replace('slice', []);
    tracker.replace('service', []);
    assert.deepEqual([...tracker.takeDirty().keys], ['ns/a']);
    assert.deepEqual(tracker.state('ns/a'), { service: undefined, slices: [] });
    assert.deepEqual([...tracker.keys()], []);
  });

  test('a slice that moves to another Service touches both', () => {
    const tracker = new ServiceTracker();
    tracker.apply({ kind: 'slice', key: 'ns/s', value: slice('10.0.0.1') });
    tracker.takeDirty();
    tracker.apply({ kind: 'slice', key: 'ns/s', value: { ...slice('10.0.0.1'), service: 'b' } });
    assert.deepEqual([...tracker.takeDirty().keys].sort(), ['ns/a', 'ns/b']);
    assert.equal(tracker.state('ns/a').slices.length, 0);
    assert.equal(tracker.state('ns/b').slices.length, 1);
  });
});
