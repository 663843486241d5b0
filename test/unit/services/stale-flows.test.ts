import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ipv4 } from '../../../src/model/address.ts';
import type { Flow } from '../../../src/model/flow.ts';
import { FlowTable, isLost } from '../../../src/services/plan/stale-flows.ts';
import { serviceEntries } from '../../../src/services/plan/table.ts';
import { type EndpointSpec, serviceObject, sliceObject, stateOf } from '../../lab/service-fixtures.ts';

const own = (address: string): boolean => address === '192.0.2.1';

function entries(endpoints: readonly EndpointSpec[], protocol = 'UDP') {
  const spec = {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.53',
    externalIPs: ['203.0.113.7'],
    ports: [{ name: 'dns', port: 53, protocol, nodePort: 30_053 }],
  };
  const status = { status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }] } } };
  const slice = sliceObject('ns/dns', [{ name: 'dns', port: 5353, protocol }], endpoints);
  return serviceEntries(stateOf(serviceObject('ns/dns', spec, status), slice)[1], ipv4, { name: 'n' });
}

function flow(to: string, port: number, by: string, byPort = 5353, protocol: Flow['protocol'] = 'UDP'): Flow {
  const destination = { address: to, port };
  return { protocol, destination, backend: { address: by, port: byPort }, replied: false };
}

describe('a flow', () => {
  const table = new FlowTable();
  const draining = { ready: false, serving: true, terminating: true };
  table.setService(
    'ns/dns',
    entries([
      { ip: '10.0.0.1' },
      { ip: '10.0.0.2', ...draining },
      { ip: '10.0.0.3', ready: false, serving: false },
    ]),
  );
  const rows: readonly [what: string, flow: Flow, stale: boolean][] = [
    ['to an endpoint', flow('10.96.0.53', 53, '10.0.0.1'), false],
    ['to an endpoint that drains', flow('10.96.0.53', 53, '10.0.0.2'), false],
    ['to an endpoint that serves no more', flow('10.96.0.53', 53, '10.0.0.3'), true],
    ['to an endpoint that is gone', flow('10.96.0.53', 53, '10.0.0.9'), true],
    ['to another port of an endpoint', flow('10.96.0.53', 53, '10.0.0.1', 53), true],
    ['that was never sent on', flow('10.96.0.53', 53, '10.96.0.53', 53), true],
    ['to the external address', flow('203.0.113.7', 53, '10.0.0.9'), true],
    ['to the load balancer address', flow('203.0.113.9', 53, '10.0.0.9'), true],
    ['to the node port', flow('192.0.2.1', 30_053, '10.0.0.9'), true],
    ['to the node port, right', flow('192.0.2.1', 30_053, '10.0.0.1'), false],
    ['to the same port of another machine', flow('192.0.2.9', 30_053, '192.0.2.9', 30_053), false],
    ['to another port of the address', flow('10.96.0.53', 54, '10.0.0.9'), false],
    ['of another protocol', flow('10.96.0.53', 53, '10.0.0.9', 5353, 'SCTP'), false],
    ['that is none of ours', flow('8.8.8.8', 53, '8.8.8.8', 53), false],
  ];
  for (const [what, one, stale] of rows) {
    test(`${what} is ${stale ? 'stale' : 'left alone'}`, () => assert.equal(table.isStale(one, own), stale));
  }
});

test('flows of a Service that is gone are stale until they were looked at', () => {
  const table = new FlowTable();
  const one = flow('10.96.0.53', 53, '10.0.0.1');
  table.setService('ns/dns', entries([{ ip: '10.0.0.1' }]));
  table.beginLook();
  table.forgetGone();
  table.setService('ns/dns', []);
  assert.equal(table.dirty, true);
  assert.equal(table.isStale(one, own), true);
  table.beginLook();
  table.forgetGone();
  assert.equal(table.dirty, false);
  assert.equal(table.isStale(one, own), false);
});

test('what changes during a look is not forgotten by it', () => {
  const table = new FlowTable();
  table.setService('ns/dns', entries([{ ip: '10.0.0.1' }]));
  table.beginLook();
  table.setService('ns/dns', []);
  table.forgetGone();
  assert.equal(table.isStale(flow('10.96.0.53', 53, '10.0.0.1'), own), true);
});

test('TCP is none of its business', () => {
  const table = new FlowTable();
  table.setService('ns/dns', entries([{ ip: '10.0.0.1' }], 'TCP'));
  assert.equal(table.dirty, false);
  assert.equal(table.isEmpty, true);
});

describe('a TCP connection', () => {
  const isServed = (address: string): boolean => address === '10.96.0.53';
  const rows: readonly [what: string, flow: Flow, lost: boolean][] = [
    ['that was never sent on', flow('10.96.0.53', 80, '10.96.0.53', 80, 'TCP'), true],
    ['to an endpoint', flow('10.96.0.53', 80, '10.0.0.1', 8080, 'TCP'), false],
    ['that somebody answers', { ...flow('10.96.0.53', 80, '10.96.0.53', 80, 'TCP'), replied: true }, false],
    ['to another address', flow('192.0.2.1', 80, '192.0.2.1', 80, 'TCP'), false],
  ];
  for (const [what, one, lost] of rows) {
    test(`${what} is ${lost ? 'lost' : 'left alone'}`, () => assert.equal(isLost(one, isServed), lost));
  }
});

test('two Services that claim one address both keep their flows, whichever changes or goes', () => {
  const table = new FlowTable();
  const toA = flow('203.0.113.7', 53, '10.0.0.1');
  const toB = flow('203.0.113.7', 53, '10.0.0.2');
  const stale = (): boolean[] => [toA, toB].map((one) => table.isStale(one, own));
  table.setService('ns/a', entries([{ ip: '10.0.0.1' }]));
  table.setService('ns/b', entries([{ ip: '10.0.0.2' }]));
  assert.deepEqual(stale(), [false, false]);
  table.setService('ns/a', entries([{ ip: '10.0.0.1' }]));
  assert.deepEqual(stale(), [false, false]);
  table.setService('ns/a', []);
  assert.deepEqual(stale(), [true, false]);
  table.beginLook();
  table.forgetGone();
  assert.deepEqual(stale(), [true, false], 'the other one still says who may answer');
  table.setService('ns/b', []);
  assert.deepEqual(stale(), [true, true]);
  table.beginLook();
  table.forgetGone();
  assert.ok(table.isEmpty);
});
