import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { annotationNames, nodeLease } from '../../../src/leases/plan/node-annotations.ts';
import { goField, goFields } from '../../../src/model/go-json.ts';

test('a field is found whatever the case of its name, as Go’s encoding/json finds it', () => {
  for (const name of ['hostPort', 'HostPort', 'HOSTPORT', 'hostport', 'ho\u017ftPort'])
    assert.equal(goField({ [name]: 80 }, 'hostPort'), 80, name);
  for (const name of ['socket', '\u017foc\u212aet', 'SOC\u212aET'])
    assert.equal(goField({ [name]: '/x' }, 'socket'), '/x', name);
  for (const name of ['hostPort ', 'host-port', 'hostport\u0000', 'hostP\u00f6rt', 'constructor'])
    assert.equal(goField({ [name]: 80 }, 'hostPort'), undefined, name);
  assert.equal(goField({ '\u0131ps': 1 }, 'ips'), undefined, 'the dotless i is another letter');
  assert.equal(goField({}, 'constructor'), undefined);
});

test('the exact name wins, then the last one; null is no value', () => {
  assert.equal(goField({ hostPort: 1, HostPort: 2 }, 'hostPort'), 1);
  assert.equal(goField({ HostPort: 2, hostPort: 1, HOSTPORT: 3 }, 'hostPort'), 1);
  assert.equal(goField({ HostPort: 2, HOSTPORT: 3 }, 'hostPort'), 3);
  assert.equal(goField({ hostPort: null, HostPort: 2 }, 'hostPort'), 2);
  assert.equal(goField({ HostPort: 2, HOSTPORT: null }, 'hostPort'), 2);
  assert.equal(goField({ HostPort: null }, 'hostPort'), null, 'there, and null');
});

test('names are set right only where they are not, and nothing else is touched', () => {
  const right = { hostPort: 1, other: 2 };
  assert.equal(goFields(right, ['hostPort']), right);
  const names = ['hostPort', 'containerPort'];
  const mixed = JSON.parse('{"HostPort":1,"containerPort":2,"ContainerPort":3,"__proto__":{"hostIP":"x"}}');
  const fields = goFields(mixed, names);
  assert.equal(fields.hostPort, 1);
  assert.equal(fields.containerPort, 2);
  assert.equal(Object.getPrototypeOf(fields), Object.prototype);
  assert.equal(fields.hostIP, undefined);
});

test('leases, annotations and network configurations are read in any case', () => {
  const data = '{"vni":7,"VTEPMAC":"0a:58:c0:00:02:07"}';
  const value = `{"publicIP":"192.0.2.7","backendtype":"vxlan","BACKENDDATA":${data}}`;
  const lease = parseLease('10.244.7.0-24', value);
  assert.deepEqual([lease.backend, lease.vni], ['vxlan', 7]);
  assert.equal(lease.families[0]?.vtepMac, '0a:58:c0:00:02:07');
  const names = annotationNames('flannel.alpha.coreos.com');
  const annotations = {
    [names.managed]: 'true',
    [names.backendType]: 'vxlan',
    [names.data.ipv4]: data,
    [names.publicIp.ipv4]: '192.0.2.7',
  };
  const node = { metadata: { name: 'n', annotations }, spec: { podCIDR: '10.244.7.0/24' } };
  assert.deepEqual(nodeLease(node, names)?.families, lease.families);
  const text = '{"networK":"10.1.0.0/16","Network":"10.244.0.0/16","bac\u212aend":{"type":"host-gw"}}';
  const { families, backend } = parseNetworkConfig(text);
  assert.deepEqual([families[0]?.network.text, backend.type], ['10.244.0.0/16', 'host-gw']);
});
