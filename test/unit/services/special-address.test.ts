import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpointSlice, parseService } from '../../../src/services/plan/parse.ts';
import { serviceObject, sliceObject } from '../../lab/service-fixtures.ts';

const special = [
  ['0.0.0.0', 'unspecified'],
  ['::', 'unspecified'],
  ['127.0.0.1', 'loopback'],
  ['127.255.0.9', 'loopback'],
  ['::1', 'loopback'],
  ['169.254.20.10', 'link-local'],
  ['fe80::1', 'link-local'],
  ['febf::1', 'link-local'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.250', 'multicast'],
  ['ff02::1', 'multicast'],
  ['255.255.255.255', 'broadcast'],
  ['::ffff:192.0.2.1', 'IPv4 address'],
  ['::ffff:c000:201', 'IPv4 address'],
] as const;
const ordinary = ['192.0.2.1', '240.0.0.1', '2001:db8::1', '::1.2.3.4', 'fec0::1', 'fd00::ffff:1:2'];

describe('one filter for the addresses of Services and endpoints', () => {
  for (const [text, why] of special)
    it(`${text} is left out everywhere, and named`, () => {
      const { value, problems } = parseService(
        serviceObject(
          'ns/a',
          { type: 'LoadBalancer', clusterIP: text, externalIPs: [text], ports: [{ port: 80 }] },
          { status: { loadBalancer: { ingress: [{ ip: text }] } } },
        ),
      );
      assert.deepEqual([value.clusterIPs, value.externalIPs, value.loadBalancerIPs], [[], [], []]);
      assert.equal(problems.length, 3);
      for (const problem of problems) assert.match(problem, new RegExp(`^(spec|status)\\..*${why}`));
      const addressType = text.includes(':') ? 'IPv6' : 'IPv4';
      const slice = { ...sliceObject('ns/a', [{ port: 80 }], [{ ip: text }]), addressType };
      const parsed = parseEndpointSlice(slice)!;
      assert.deepEqual(parsed.value.endpoints, []);
      assert.match(parsed.problems[0]!, new RegExp(why));
    });

  it('others are taken, those of the node itself too', () => {
    const spec = { clusterIP: '10.96.0.1', externalIPs: ordinary, ports: [{ port: 80 }] };
    const { value, problems } = parseService(serviceObject('ns/a', spec));
    assert.deepEqual([value.externalIPs, problems], [ordinary, []]);
  });
});

describe('what kube-proxy does not read', () => {
  it('the annotation for source ranges means nothing', () => {
    const annotations = { 'service.beta.kubernetes.io/load-balancer-source-ranges': '192.0.2.0/24' };
    const spec = { type: 'LoadBalancer', clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
    const raw = serviceObject('ns/a', spec, { metadata: { annotations } });
    assert.deepEqual(parseService(raw).value.sourceRanges, []);
  });
});
