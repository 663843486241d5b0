import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  findTarget,
  type Names,
  portNumber,
  senderName,
  servicePort,
  splitTarget,
} from '../../../../src/inspect/trace/plan/targets.ts';

const pod = (name: string | undefined, containerId: string, address: string) => ({
  pod: name,
  containerId,
  netns: `/run/netns/${containerId}`,
  addresses: [address],
});
const way = (service: string, portName: string, port: number, protocol: 'tcp' | 'udp' = 'tcp') => ({
  service,
  portName,
  address: '10.96.0.10',
  port,
  protocol,
  kind: 'cluster IP',
});
const names: Names = {
  node: 'node1',
  pods: [
    pod('shop/client', 'aaaa1111', '10.244.1.2'),
    pod('blog/client', 'aaaa2222', '10.244.1.3'),
    pod('shop/web', 'bbbb1111', '10.244.1.4'),
    pod('shop/front', 'bbbb2222', '10.244.1.8'),
    pod('shop/db-0', 'cccc1111', '10.244.1.5'),
    pod('shop/db-0', 'cccc2222', '10.244.1.6'),
    pod(undefined, 'dddd1111', '10.244.1.7'),
  ],
  services: [
    way('shop/web', 'http', 80),
    way('shop/web', 'metrics', 9090),
    way('blog/front', '', 80),
    way('shop/front', '', 80),
    way('default/dns', '', 53, 'udp'),
    way('kube-system/dns', '', 53, 'udp'),
  ],
  headless: ['shop/db'],
  podNetworks: [],
  nodes: [],
};

/** What a name stands for, in short; of one that is refused, why. */
function meaning(written: string, side: 'from' | 'to' = 'to'): string {
  try {
    const target = findTarget(written, names, side);
    if (target.kind === 'pod') return `pod ${target.pod.addresses[0]}`;
    if (target.kind === 'service') return `service ${target.service}`;
    return target.kind === 'address' ? target.address : target.kind;
  } catch (error) {
    return (error as Error).message;
  }
}

describe('what people write for FROM and TO', () => {
  const cases: readonly (readonly [written: string, side: 'from' | 'to', means: string | RegExp])[] = [
    ['shop/client', 'from', 'pod 10.244.1.2'],
    ['aaaa1', 'from', 'pod 10.244.1.2'],
    ['dddd', 'from', 'pod 10.244.1.7'],
    // A name without its namespace, where there is one pod or Service of it.
    ['db-0', 'from', /^'db-0' may be 2 pods: .*shop\/db-0 \(container cccc1111\), .*cccc2222/],
    ['client', 'from', /^'client' may be 2 pods: .*shop\/client .*blog\/client/],
    ['web', 'from', 'pod 10.244.1.4'],
    ['web', 'to', 'service shop/web'],
    ['pod/web', 'to', 'pod 10.244.1.4'],
    ['svc/web', 'to', 'service shop/web'],
    ['front', 'to', /^'front' may be 2 Services: blog\/front, shop\/front/],
    ['dns', 'to', 'service default/dns'],
    ['kube-system/dns', 'to', 'service kube-system/dns'],
    ['front', 'from', 'pod 10.244.1.8'],
    ['pod/front', 'to', 'pod 10.244.1.8'],
    ['svc/front', 'from', /^'svc\/front' may be 2 Services/],
    ['blog/front', 'from', /is a Service: nothing is sent from it/],
    ['shop/db', 'to', /^Service shop\/db has no address of its own \(it is headless\)/],
    ['aaaa', 'from', /may be 2 pods/],
    ['aaa', 'from', /is no pod, Service or address/],
    ['nobody', 'to', /known here: node, node1, outside, any address, shop\/client/],
    ['node1', 'to', 'node'],
    ['10.0.0.300', 'to', /is no pod/],
    ['2001:DB8::1', 'to', '2001:db8::1'],
  ];
  for (const [written, side, means] of cases)
    it(`${side} ${written}`, () => {
      if (typeof means === 'string') assert.equal(meaning(written, side), means);
      else assert.match(meaning(written, side), means);
    });

  it('has its port behind it', () => {
    assert.deepEqual(splitTarget('[fd00::1]:80'), { name: 'fd00::1', port: '80' });
    assert.deepEqual(splitTarget('fd00::1:80'), { name: 'fd00::1:80', port: undefined });
    assert.deepEqual(splitTarget('10.0.0.1:'), { name: '10.0.0.1', port: '' });
    assert.equal(senderName('[fd00::1]'), 'fd00::1');
    assert.throws(() => senderName('shop/client:80'), /FROM has no port: write 'shop\/client'/);
  });

  it('is a port from 1 to 65535, or the name or number of one of a Service', () => {
    for (const text of ['', '0', '65536', '99999999', '-1', '80.5', 'http', '0x50'])
      assert.throws(() => portNumber(text), /is not a port from 1 to 65535/, text);
    assert.equal(portNumber('65535'), 65_535);
    const web = names.services.filter(({ service }) => service === 'shop/web');
    const any = (): boolean => true;
    assert.equal(servicePort(web, 'metrics', undefined, any).port, 9090);
    assert.throws(
      () => servicePort(web, undefined, undefined, any),
      /say which port is meant; ports: 80\/tcp \(http\)/,
    );
    assert.throws(() => servicePort(web, '81', undefined, any), /it has no such port/);
    assert.throws(() => servicePort(web, 'http', 'udp', any), /it has no such port/);
  });
});
