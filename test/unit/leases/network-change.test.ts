import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseLease } from '../../../src/leases/plan/lease.ts';
import {
  fitsLimits,
  inNetwork,
  keepsSubnets,
  networkChanges,
} from '../../../src/leases/plan/network-change.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';

const parse = (fields: object): NetworkConfig =>
  parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' }, ...fields }));
const v6 = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };
const lease = parseLease('10.244.7.0-24', '{"PublicIP":"192.0.2.7","BackendType":"host-gw"}');
const dual = parseLease(
  '10.244.7.0-24&fd00:244:0:7::-64',
  '{"PublicIP":"192.0.2.7","PublicIPv6":"2001:db8::7","BackendType":"host-gw"}',
);

describe('a network configuration that changes', () => {
  const changes: [what: string, before: object, after: object, expected: string[]][] = [
    ['nothing', {}, {}, []],
    ['what a default says anyway', {}, { SubnetLen: 24, EnableIPv4: true }, []],
    [
      'the backend',
      {},
      { Backend: { Type: 'host-gw' } },
      [
        'Backend.Type: vxlan -> host-gw',
        'Backend.VNI: 1 -> unset',
        'Backend.Port: 8472 -> unset',
        'Backend.DirectRouting: false -> unset',
        'Backend.Learning: false -> unset',
        'Backend.GBP: false -> unset',
      ],
    ],
    ['a parameter', {}, { Backend: { Type: 'vxlan', MTU: 1400 } }, ['Backend.MTU: unset -> 1400']],
    ['the kind of rules', {}, { EnableNFTables: true }, ['EnableNFTables: false -> true']],
    [
      'a limit',
      {},
      { SubnetMax: '10.244.9.0' },
      [
        'IPv4 network: 10.244.0.0/16, /24 from 10.244.1.0 to 10.244.255.0 -> 10.244.0.0/16, /24 from 10.244.1.0 to 10.244.9.0',
      ],
    ],
    [
      'a family',
      {},
      v6,
      ['IPv6 network: unset -> fd00:244::/48, /64 from fd00:244:0:1:: to fd00:244:0:ffff::'],
    ],
  ];
  for (const [what, before, after, expected] of changes)
    it(`tells what differs: ${what}`, () => {
      assert.deepEqual(networkChanges(parse(before), parse(after)), expected);
    });

  const kept: [what: string, own: typeof lease, after: object, keeps: boolean][] = [
    ['the same', lease, {}, true],
    ['a wider network', lease, { Network: '10.244.0.0/15' }, true],
    ['another network', lease, { Network: '10.9.0.0/16' }, false],
    ['other limits around it', lease, { SubnetMin: '10.244.7.0', SubnetMax: '10.244.7.0' }, true],
    ['limits without it', lease, { SubnetMin: '10.244.8.0' }, false],
    ['another size', lease, { SubnetLen: 25 }, false],
    ['a further family', lease, v6, true],
    ['both families', dual, v6, true],
    ['a family less', dual, {}, false],
  ];
  for (const [what, own, after, keeps] of kept)
    it(`${keeps ? 'leaves' : 'takes away'} the subnet: ${what}`, () => {
      assert.equal(keepsSubnets(parse(after), own, fitsLimits), keeps);
    });

  it('a podCIDR of any size in the network is kept', () => {
    const network = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}', false);
    const other = parseNetworkConfig('{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan"}}', false);
    const small = parseNetworkConfig('{"Network":"10.244.7.0/25","Backend":{"Type":"vxlan"}}', false);
    assert.deepEqual(
      [network, other, small].map((config) => keepsSubnets(config, lease, inNetwork)),
      [true, false, false],
    );
  });
});
