import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseEndpointSlice, parseService } from '../../../src/services/plan/parse.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';

const port = { name: 'http', port: 80 };

describe('a Service', () => {
  const refused: readonly [what: string, raw: unknown, message: RegExp][] = [
    ['nothing', null, /metadata\.name/],
    ['a name with a quote', serviceObject('ns/a"b', { ports: [port] }), /metadata\.name: "a\\"b"/],
    ['a name with a newline', serviceObject('ns/a\n-j ACCEPT', { ports: [port] }), /metadata\.name/],
    ['a name of 10,000 characters', serviceObject(`ns/${'a'.repeat(10_000)}`, {}), /metadata\.name: "a{59}…/],
    [
      'an affinity timeout of 0',
      serviceObject('ns/a', {
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } },
      }),
      /timeoutSeconds/,
    ],
  ];
  for (const [what, raw, message] of refused) {
    test(`with ${what} is refused, naming the field`, () => {
      assert.throws(() => parseService(raw), message);
    });
  }

  const partly: readonly [what: string, spec: Record<string, unknown>, problem: RegExp][] = [
    ['port 0', { ports: [{ port: 0 }, port] }, /spec\.ports\[0\]\.port: 0 is not a port number/],
    ['a port as text', { ports: [{ port: '80' }, port] }, /spec\.ports\[0\]\.port: "80"/],
    ['an unknown protocol', { ports: [{ port: 1, protocol: 'tcp -j ACCEPT' }, port] }, /protocol/],
    [
      'a node port out of range',
      { ports: [{ port: 1, nodePort: 70_000 }, port] },
      /spec\.ports\[0\]\.nodePort: 70000/,
    ],
    [
      'a port name with a newline',
      { ports: [{ port: 1, name: 'a\nb' }, port] },
      /spec\.ports\[0\]\.name: "a\\nb"/,
    ],
    [
      'an external address with spaces',
      { ports: [port], externalIPs: ['1.2.3.4 -j ACCEPT'] },
      /spec\.externalIPs\[0\]/,
    ],
  ];
  for (const [what, spec, problem] of partly) {
    test(`with ${what} goes without it, naming the field`, () => {
      const { value, problems } = parseService(serviceObject('ns/a', { clusterIP: '10.96.0.1', ...spec }));
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, problem);
      assert.deepEqual(value.ports, [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 0 }]);
      assert.deepEqual(value.externalIPs, []);
    });
  }

  test('with source ranges of which none can be used goes without addresses of a load balancer', () => {
    const balanced = (loadBalancerSourceRanges: string[]) =>
      parseService(
        serviceObject(
          'ns/a',
          { type: 'LoadBalancer', clusterIP: '10.96.0.1', ports: [port], loadBalancerSourceRanges },
          { status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } } },
        ),
      );
    const { value, problems } = balanced(['all']);
    assert.match(problems.join(), /loadBalancerSourceRanges\[0\]: "all"/);
    assert.deepEqual([value.loadBalancerIPs, value.clusterIPs], [[], ['10.96.0.1']]);
    const some = balanced(['all', ' 198.51.100.9/24 ', '::ffff:198.51.101.0/120', '::ffff:0:0/64']).value;
    assert.deepEqual(some.sourceRanges, ['198.51.100.0/24', '198.51.101.0/24', '::/64']);
    assert.deepEqual(some.loadBalancerIPs, ['203.0.113.9']);
  });

  test('of another type has the addresses that its status names, as with kube-proxy', () => {
    for (const type of ['ClusterIP', 'NodePort', undefined]) {
      const spec = { type, clusterIP: '10.96.0.1', ports: [port], loadBalancerSourceRanges: ['10.0.0.0/8'] };
      const status = { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } };
      const { value } = parseService(serviceObject('ns/a', spec, { status }));
      assert.deepEqual([value.loadBalancerIPs, value.sourceRanges], [['203.0.113.9'], ['10.0.0.0/8']]);
    }
  });

  test('has those addresses of a load balancer that packets arrive with: of the mode VIP, or of none', () => {
    const modes = [undefined, null, 'VIP', 'Proxy', 'Other', ''];
    const ingress = modes.map((ipMode, index) => ({ ip: `203.0.113.${index}`, ipMode }));
    const others = [{ hostname: 'lb.example' }, { ip: '' }, { ip: null }];
    const { value, problems } = parseService(
      serviceObject(
        'ns/a',
        { type: 'LoadBalancer' },
        { status: { loadBalancer: { ingress: [...ingress, ...others] } } },
      ),
    );
    assert.deepEqual(value.loadBalancerIPs, ['203.0.113.0', '203.0.113.1', '203.0.113.2']);
    assert.deepEqual(problems, []);
  });

  test('has decimal numbers with leading zeros in its addresses, as Kubernetes reads them', () => {
    const { value, problems } = parseService(
      serviceObject(
        'ns/a',
        {
          clusterIP: '010.096.000.010',
          ports: [port],
          externalIPs: ['198.018.000.001', '0198.18.0.2', '::ffff:010.1.1.1'],
          loadBalancerSourceRanges: ['198.051.100.000/024'],
        },
        { status: { loadBalancer: { ingress: [{ ip: '203.000.113.009' }] } } },
      ),
    );
    assert.deepEqual(value.clusterIPs, ['10.96.0.10']);
    assert.deepEqual(value.externalIPs, ['198.18.0.1', '198.18.0.2']);
    assert.deepEqual(value.loadBalancerIPs, ['203.0.113.9']);
    assert.deepEqual(value.sourceRanges, ['198.51.100.0/24']);
    assert.equal(problems.length, 1);
  });

  test('without a cluster address has none: headless, ExternalName', () => {
    assert.deepEqual(parseService(serviceObject('ns/a', { clusterIP: 'None' })).value.clusterIPs, []);
    assert.deepEqual(
      parseService(serviceObject('ns/a', { type: 'ExternalName', clusterIP: '10.96.0.1' })).value.clusterIPs,
      [],
    );
  });

  test('has canonical addresses, at most one of each family', () => {
    const spec = { clusterIPs: ['fd00:0::A', '10.96.0.1', '10.96.0.2'] };
    assert.deepEqual(parseService(serviceObject('ns/a', spec)).value.clusterIPs, ['fd00::a', '10.96.0.1']);
  });
});

describe('an EndpointSlice', () => {
  test('goes without endpoints no packet may be sent to', () => {
    const bad = [
      '127.0.0.1',
      '169.254.1.1',
      '224.0.0.1',
      '0.0.0.0',
      '255.255.255.255',
      '010.1.1',
      'fd00::1',
      '1.2.3.4\n',
    ];
    const raw = sliceObject(
      'ns/a',
      [port],
      ['10.244.0.1', ...bad, '010.244.000.002'].map((ip) => ({ ip })),
    );
    const { value, problems } = parseEndpointSlice({ ...raw, addressType: 'IPv4' })!;
    assert.deepEqual(
      value.endpoints.map((endpoint) => endpoint.address),
      ['10.244.0.1', '10.244.0.2'],
    );
    assert.equal(problems.length, bad.length);
    assert.match(problems[0]!, /endpoints\[1\]\.addresses\[0\]: "127\.0\.0\.1" is a loopback/);
  });

  test('goes without IPv6 endpoints no packet may be sent to', () => {
    const bad = ['::1', '::', 'fe80::1', 'ff02::1', '::ffff:127.0.0.1', '10.0.0.1'];
    const raw = sliceObject(
      'ns/a',
      [port],
      ['fd00::1', ...bad].map((ip) => ({ ip })),
    );
    const { value, problems } = parseEndpointSlice({ ...raw, addressType: 'IPv6' })!;
    assert.deepEqual(
      value.endpoints.map((endpoint) => endpoint.address),
      ['fd00::1'],
    );
    assert.equal(problems.length, bad.length);
  });

  test('takes absent conditions as ready, serving and not terminating', () => {
    const [endpoint] = parseEndpointSlice(sliceObject('ns/a', [port], [{ ip: '10.0.0.1' }]))!.value.endpoints;
    assert.equal(endpoint!.ready && endpoint!.serving && !endpoint!.terminating, true);
  });

  test('of names is nothing for a proxy, one of an unknown kind is refused', () => {
    const raw = sliceObject('ns/a', [port], []);
    assert.equal(parseEndpointSlice({ ...raw, addressType: 'FQDN' }), undefined);
    assert.throws(() => parseEndpointSlice({ ...raw, addressType: 'MAC' }), /addressType: "MAC"/);
    assert.throws(
      () => parseEndpointSlice({ ...raw, metadata: { name: 'x' } }),
      /kubernetes\.io\/service-name/,
    );
  });
});

test('a health check port is for load balancers with policy Local and a port alone', () => {
  const port = (type: string, externalTrafficPolicy: string, ports: object[] = [{ port: 80 }]): number =>
    parseService(
      serviceObject('shop/web', {
        type,
        externalTrafficPolicy,
        healthCheckNodePort: 32_000,
        clusterIP: '10.96.0.1',
        ports,
      }),
    ).value.healthCheckNodePort;
  assert.equal(port('LoadBalancer', 'Local'), 32_000);
  assert.equal(port('LoadBalancer', 'Local', []), 0);
  assert.equal(port('LoadBalancer', 'Local', [{ port: 0 }]), 0);
  assert.equal(port('LoadBalancer', 'Cluster'), 0);
  assert.equal(port('NodePort', 'Local'), 0);
  assert.equal(port('ClusterIP', 'Local'), 0);
});
