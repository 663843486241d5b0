import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  formatLeaseValue,
  leaseKeyName,
  parseLease,
  parseLeaseKeyName,
  sameLease,
} from '../../../src/leases/plan/lease.ts';
import { parsePrefix } from '../../../src/model/address.ts';
import { describeError, isTwillError } from '../../../src/model/error.ts';

const mac = '0a:58:c0:00:02:07';
const vxlan = `{"VNI":1,"VtepMAC":"${mac}"}`;

describe('lease', () => {
  const examples: [string, string, string][] = [
    [
      'IPv4',
      '10.244.7.0-24',
      `{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":${vxlan}}`,
    ],
    [
      'dual stack',
      '10.244.7.0-24&fd00:7::-64',
      `{"PublicIP":"192.0.2.7","PublicIPv6":"2001:db8::7","BackendType":"vxlan","BackendData":${vxlan},"BackendV6Data":${vxlan}}`,
    ],
    [
      'IPv6 only',
      '0.0.0.0-0&fd00:7::-64',
      `{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::7","BackendType":"vxlan","BackendV6Data":${vxlan}}`,
    ],
    ['host-gw', '10.244.7.0-24', '{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"host-gw"}'],
  ];
  for (const [what, name, value] of examples) {
    it(`${what}: is read, and written byte for byte as flannel does`, () => {
      const lease = parseLease(name, value);
      assert.equal(formatLeaseValue(lease), value);
      assert.equal(leaseKeyName(lease.families.map(({ subnet }) => subnet)), name);
    });
  }

  it('accepts what older flannels wrote, without a VNI', () => {
    const lease = parseLease(
      '10.244.7.0-24',
      `{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"${mac.toUpperCase()}"}}`,
    );
    assert.equal(lease.vni, undefined);
    assert.equal(lease.families[0]?.vtepMac, mac);
  });

  for (const written of ['0A-58-C0-00-02-07', '0a58.c000.0207'])
    it(`reads a MAC address as Go does: ${written}`, () => {
      const value = `{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"${written}"}}`;
      assert.equal(parseLease('10.244.7.0-24', value).families[0]?.vtepMac, '0a:58:c0:00:02:07');
    });

  it('reads the families that a node has published', () => {
    const value = `{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":${vxlan}}`;
    const lease = parseLease('10.244.7.0-24&fd00:7::-64', value);
    assert.deepEqual(
      lease.families.map(({ family }) => family.name),
      ['ipv4'],
    );
  });

  for (const name of [
    'nonsense',
    '10.244.7.0',
    '10.244.7.0-33',
    '10.244.7.9-24',
    '10.244.700.0-24',
    '0.0.0.0-0',
    '10.244.7.0-24/x',
    '-24',
  ]) {
    it(`refuses the key '${name}' and names it`, () => {
      assert.throws(
        () => parseLeaseKeyName(name),
        (error) => isTwillError(error, 'invalid') && error.message.includes(`'${name}'`),
      );
    });
  }

  const refused: [string, string][] = [
    ['{', 'not JSON'],
    ['null', 'not an object'],
    ['{}', 'PublicIP is missing'],
    ['{"BackendType":7}', 'BackendType is not a string'],
    ['{"BackendType":"vxlan","BackendData":{"VtepMAC":"0a:58:c0:00:02:07"}}', 'PublicIP'],
    ['{"PublicIP":"192.0.2.7","BackendType":"vxlan"}', 'BackendData.VtepMAC'],
    ['{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"zz"}}', "'zz'"],
    ['{"PublicIP":"192.0.2","BackendType":"host-gw"}', "'192.0.2'"],
    ['{"PublicIP":7,"BackendType":"host-gw"}', 'PublicIP'],
    ['{"PublicIP":"fd00::1","BackendType":"host-gw"}', 'fd00::1'],
  ];
  for (const [value, named] of refused) {
    it(`refuses the value ${value} and names key and field`, () => {
      assert.throws(
        () => parseLease('10.244.7.0-24', value),
        (error) => {
          assert.ok(isTwillError(error, 'invalid'));
          assert.ok(describeError(error).includes('10.244.7.0-24'));
          assert.ok(describeError(error).includes(named), describeError(error));
          return true;
        },
      );
    });
  }

  const impossible: [string, string, string][] = [
    ['a loopback subnet', '127.0.5.0-24', `{"PublicIP":"192.0.2.7","BackendType":"host-gw"}`],
    ['a multicast subnet', '224.0.5.0-24', `{"PublicIP":"192.0.2.7","BackendType":"host-gw"}`],
    [
      'an IPv6 multicast subnet',
      '0.0.0.0-0&ff05::-64',
      `{"PublicIPv6":"2001:db8::7","BackendType":"host-gw"}`,
    ],
    ['an unspecified IPv6 subnet', '0.0.0.0-0&::-64', `{"PublicIPv6":"2001:db8::7","BackendType":"host-gw"}`],
    ['an unspecified public IP', '10.244.7.0-24', `{"PublicIP":"0.0.0.0","BackendType":"host-gw"}`],
    ['a loopback public IP', '10.244.7.0-24', `{"PublicIP":"127.0.0.1","BackendType":"host-gw"}`],
    ['a multicast public IP', '10.244.7.0-24', `{"PublicIP":"224.0.0.1","BackendType":"host-gw"}`],
    ['a broadcast public IP', '10.244.7.0-24', `{"PublicIP":"255.255.255.255","BackendType":"host-gw"}`],
    ['an IPv6 loopback public IP', '0.0.0.0-0&fd00:7::-64', `{"PublicIPv6":"::1","BackendType":"host-gw"}`],
    ...['00:00:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff'].map(
      (group): [string, string, string] => [
        `the MAC address ${group}`,
        '10.244.7.0-24',
        `{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${group}"}}`,
      ],
    ),
  ];
  for (const [what, name, value] of impossible) {
    it(`${what} is no node's`, () => {
      assert.throws(() => parseLease(name, value), /no node can have|is no device's/);
    });
  }

  it('compares all families', () => {
    const [, name, value] = examples[1]!;
    const lease = parseLease(name, value);
    assert.ok(sameLease(lease, parseLease(name, value)));
    assert.ok(!sameLease(lease, parseLease(name, value.replace('2001:db8::7', '2001:db8::8'))));
  });

  it('keeps IPv4 first in the key', () => {
    assert.equal(
      leaseKeyName([parsePrefix('fd00:7::/64'), parsePrefix('10.244.7.0/24')]),
      '10.244.7.0-24&fd00:7::-64',
    );
  });
});
