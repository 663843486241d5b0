import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { isTwillError } from '../../../src/model/error.ts';

const vxlan = { Type: 'vxlan' };
const parse = (config: object): ReturnType<typeof parseNetworkConfig> =>
  parseNetworkConfig(JSON.stringify(config));

describe('network configuration', () => {
  const limits: [string, object, [number, string, string]][] = [
    ['a /24 for each node', { Network: '10.244.0.0/16' }, [24, '10.244.1.0', '10.244.255.0']],
    ['a quarter of a small network', { Network: '10.0.0.0/26' }, [28, '10.0.0.16', '10.0.0.48']],
    ['a given length', { Network: '10.0.0.0/8', SubnetLen: 20 }, [20, '10.0.16.0', '10.255.240.0']],
    [
      'given limits',
      { Network: '10.0.0.0/8', SubnetMin: '10.10.0.0', SubnetMax: '10.99.0.0' },
      [24, '10.10.0.0', '10.99.0.0'],
    ],
  ];
  for (const [what, config, expected] of limits) {
    it(`cuts subnets as flannel does: ${what}`, () => {
      const [family] = parse({ ...config, Backend: vxlan }).families;
      assert.deepEqual([family?.subnetLength, family?.subnetMin.text, family?.subnetMax.text], expected);
    });
  }

  it('cuts IPv6 subnets of /64 and leaves IPv4 out where it is off', () => {
    const config = parse({ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/48', Backend: vxlan });
    assert.deepEqual(
      config.families.map(({ family, subnetLength, subnetMin, subnetMax }) => [
        family.name,
        subnetLength,
        subnetMin.text,
        subnetMax.text,
      ]),
      [['ipv6', 64, 'fd00:0:0:1::', 'fd00:0:0:ffff::']],
    );
  });

  it('reads the backend, field names in any case', () => {
    const config = parse({
      network: '10.244.0.0/16',
      enableNFTables: true,
      backend: {
        type: 'vxlan',
        vni: 7,
        PORT: 4789,
        mtu: 1400,
        DirectRouting: true,
        learning: true,
        GBP: true,
      },
    });
    assert.deepEqual(config.backend, {
      type: 'vxlan',
      vni: 7,
      port: 4789,
      mtu: 1400,
      directRouting: true,
      learning: true,
      gbp: true,
    });
    assert.equal(config.nftables, true);
    for (const Type of ['VXLAN', 'Host-GW', 'Alloc'])
      assert.equal(parse({ Network: '10.0.0.0/16', Backend: { Type } }).backend.type, Type.toLowerCase());
    assert.equal(
      parse({ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', Port: 0 } }).backend.type,
      'vxlan',
    );
  });

  const refused: [object, string][] = [
    [{ Backend: vxlan }, 'Network is missing'],
    [{ Network: '10.244.0.0', Backend: vxlan }, 'Network'],
    [{ Network: 'fd00::/48', Backend: vxlan }, 'not IPv4'],
    [{ Network: 5, Backend: vxlan }, 'Network is not a string'],
    [{ Network: '10.0.0.0/30', Backend: vxlan }, 'at least /28'],
    [{ Network: '10.0.0.0/16', SubnetLen: 31, Backend: vxlan }, 'SubnetLen'],
    [{ Network: '10.0.0.0/16', SubnetLen: 17, Backend: vxlan }, 'four subnets'],
    [{ Network: '10.0.0.0/16', SubnetLen: '24', Backend: vxlan }, 'SubnetLen is not a number'],
    [{ Network: '10.0.0.0/16', SubnetMin: '10.1.0.0', Backend: vxlan }, 'SubnetMin'],
    [
      { Network: '10.0.0.0/16', SubnetMax: '10.0.9.9', Backend: vxlan },
      'SubnetMax 10.0.9.9 is not the start',
    ],
    [{ Network: '10.0.0.0/16', EnableIPv6: true, Backend: vxlan }, 'IPv6Network is missing'],
    [{ EnableIPv4: false, Backend: vxlan }, 'both off'],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'wireguard' } }, 'vxlan, host-gw, alloc'],
    [{ Network: '10.0.0.0/16' }, 'vxlan, host-gw, alloc'],
    [{ Network: '10.0.0.0/16', Backend: 'vxlan' }, 'Backend is not an object'],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', VNI: 0x1000000 } }, 'Backend.VNI'],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', GBP: 'yes' } }, 'Backend.GBP is not a boolean'],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', MTU: 60 } }, 'Backend.MTU is 60: at least 118'],
    [
      {
        Network: '10.0.0.0/16',
        EnableIPv6: true,
        IPv6Network: 'fd00::/48',
        Backend: { Type: 'vxlan', MTU: 1349 },
      },
      'Backend.MTU is 1349: at least 1350',
    ],
    [{ Network: '64.0.0.0/2', Backend: vxlan }, '64.0.0.0/2 overlaps 127.0.0.0/8'],
    [{ Network: '0.0.0.0/0', Backend: vxlan }, 'overlaps 0.0.0.0/8'],
    [
      { Network: '10.0.0.0/16', SubnetMin: '10.0.9.0', SubnetMax: '10.0.8.0', Backend: vxlan },
      'SubnetMin 10.0.9.0 is above',
    ],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', Port: 65536 } }, 'Backend.Port'],
    [{ Network: '10.0.0.0/16', Backend: { Type: 'vxlan', VNI: 0 } }, 'Backend.VNI'],
  ];
  for (const [config, named] of refused) {
    it(`refuses ${JSON.stringify(config)} and names the field`, () => {
      assert.throws(
        () => parse(config),
        (error) => isTwillError(error, 'invalid') && error.message.includes(named),
      );
    });
  }

  it('refuses what is not JSON, and does not check subnets that Kubernetes allocates', () => {
    assert.throws(() => parseNetworkConfig('{'), /not JSON/);
    assert.throws(() => parseNetworkConfig('[]'), /not an object/);
    const text = JSON.stringify({ Network: '10.0.0.0/30', Backend: vxlan });
    assert.equal(parseNetworkConfig(text, false).families[0]?.network.text, '10.0.0.0/30');
  });
});
