import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Lease, parseLease } from '../../../src/leases/plan/lease.ts';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { chooseSubnet, type NodeIdentity } from '../../../src/leases/plan/subnet-choice.ts';
import { parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';

const config = parseNetworkConfig(
  '{"Network":"10.244.0.0/16","SubnetMin":"10.244.1.0","SubnetMax":"10.244.4.0","Backend":{"Type":"vxlan"}}',
);
const lease = (name: string, ip: string, mac = '02:00:00:00:00:01'): Lease =>
  parseLease(name, `{"PublicIP":"${ip}","BackendType":"vxlan","BackendData":{"VtepMAC":"${mac}"}}`);
const identity = (changes: Partial<NodeIdentity> = {}): NodeIdentity => ({
  publicIps: [parseAddress('192.0.2.7')],
  vtepMacs: new Map([['ipv4', '02:00:00:00:00:07']]),
  previous: [],
  ...changes,
});
const first = (): number => 0;
const choose = (
  leases: Lease[],
  who = identity(),
  more: Partial<Parameters<typeof chooseSubnet>[0]> = {},
) => {
  const choice = chooseSubnet({ config, leases, identity: who, random: first, ...more });
  return choice.kind === 'reuse'
    ? { reuse: choice.lease.name, proven: choice.proven }
    : {
        create: choice.subnets.map(({ text }) => text).join(),
        obsolete: choice.obsolete.map(({ name }) => name).join(),
      };
};
const previous = [parsePrefix('10.244.3.0/24')];

describe('subnet choice', () => {
  it('takes the first free subnet between the limits', () => {
    assert.deepEqual(choose([]), { create: '10.244.1.0/24', obsolete: '' });
    assert.deepEqual(choose([lease('10.244.1.0-24', '192.0.2.1')]), {
      create: '10.244.2.0/24',
      obsolete: '',
    });
    assert.deepEqual(choose([lease('10.244.0.0-22', '192.0.2.1')]), {
      create: '10.244.4.0/24',
      obsolete: '',
    });
    assert.deepEqual(choose([lease('10.244.1.128-25', '192.0.2.1')]), {
      create: '10.244.2.0/24',
      obsolete: '',
    });
  });

  it('takes no notice of what is no node’s share: one key must not keep all nodes from a lease', () => {
    const wide = lease('10.244.0.0-16', '192.0.2.1');
    assert.deepEqual(choose([wide, lease('10.244.1.0-24', '192.0.2.2')]), {
      create: '10.244.2.0/24',
      obsolete: '',
    });
    const blocked = [parsePrefix('10.244.0.0/17'), parsePrefix('10.244.1.0/24')];
    assert.deepEqual(choose([], identity(), { blocked }), { create: '10.244.2.0/24', obsolete: '' });
  });

  it('believes its own subnet file before what another node can write: our public IP and MAC address', () => {
    const mac = '02:00:00:00:00:07';
    const forged = lease('10.244.1.0-24', '192.0.2.7', mac);
    const ours = lease('10.244.3.0-24', '192.0.2.7', mac);
    assert.deepEqual(choose([forged, ours], identity({ previous })), {
      reuse: '10.244.3.0-24',
      proven: true,
    });
    // Without a subnet file it is what was there first.
    const ordered = [
      { ...forged, order: { created: 9, changed: 9 } },
      { ...ours, order: { created: 5, changed: 20 } },
    ];
    assert.deepEqual(choose(ordered), { reuse: '10.244.3.0-24', proven: true });
  });

  it('picks among all free ones, the last included', () => {
    const seen = new Set<number>();
    chooseSubnet({
      config,
      leases: [],
      identity: identity(),
      random: (below) => {
        seen.add(below);
        return below - 1;
      },
    });
    assert.deepEqual([...seen], [4]);
    assert.deepEqual(choose([], identity(), { random: (below) => below - 1 }), {
      create: '10.244.4.0/24',
      obsolete: '',
    });
  });

  it('takes the IPv6 subnet at the same place, so that nodes that choose at once want the same key', () => {
    const dual = parseNetworkConfig(
      '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}',
    );
    const dualIdentity = identity({ publicIps: [parseAddress('192.0.2.7'), parseAddress('2001:db8::7')] });
    let calls = 0;
    const random = (): number => (calls++ === 0 ? 41 : 7);
    const leases: Lease[] = [];
    const chosen = (): string => {
      calls = 0;
      const choice = choose(leases, dualIdentity, { config: dual, random });
      return 'create' in choice ? choice.create : '';
    };
    assert.equal(chosen(), '10.244.42.0/24,fd00:10:244:2a::/64');
    const other = '10.244.200.0-24&fd00:10:244:2a::-64';
    leases.push(
      parseLease(
        other,
        '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"},"BackendV6Data":{"VtepMAC":"02:00:00:00:00:01"}}',
      ),
    );
    assert.equal(chosen(), '10.244.42.0/24,fd00:10:244:8::/64');
  });

  it('keeps off subnets whose entries cannot be read', () => {
    assert.deepEqual(choose([], identity(), { blocked: [parsePrefix('10.244.1.0/24')] }), {
      create: '10.244.2.0/24',
      obsolete: '',
    });
  });

  it('reuses the lease with our public IP, and knows whether it must be ours', () => {
    assert.deepEqual(choose([lease('10.244.2.0-24', '192.0.2.7')]), {
      reuse: '10.244.2.0-24',
      proven: false,
    });
    assert.deepEqual(choose([lease('10.244.2.0-24', '192.0.2.7', '02:00:00:00:00:07')]), {
      reuse: '10.244.2.0-24',
      proven: true,
    });
    assert.deepEqual(choose([lease('10.244.3.0-24', '192.0.2.7')], identity({ previous })), {
      reuse: '10.244.3.0-24',
      proven: true,
    });
  });

  it('prefers, of two leases with our public IP, the one that is ours', () => {
    const leases = [
      lease('10.244.2.0-24', '192.0.2.7'),
      lease('10.244.3.0-24', '192.0.2.7', '02:00:00:00:00:07'),
    ];
    assert.deepEqual(choose(leases), { reuse: '10.244.3.0-24', proven: true });
    assert.deepEqual(choose(leases.slice(0, 1), identity(), { foreign: new Set(['10.244.2.0-24']) }), {
      create: '10.244.1.0/24',
      obsolete: '',
    });
  });

  it('takes the previous subnet where it is free and fits', () => {
    assert.deepEqual(choose([], identity({ previous })), { create: '10.244.3.0/24', obsolete: '' });
    assert.deepEqual(choose([lease('10.244.3.0-24', '192.0.2.1')], identity({ previous })), {
      create: '10.244.1.0/24',
      obsolete: '',
    });
    assert.deepEqual(choose([lease('10.244.2.0-23', '192.0.2.1')], identity({ previous })), {
      create: '10.244.1.0/24',
      obsolete: '',
    });
    const outside = identity({ previous: [parsePrefix('10.9.3.0/24')] });
    assert.deepEqual(choose([], outside), { create: '10.244.1.0/24', obsolete: '' });
  });

  it('gives back a lease of ours that does not fit the configuration', () => {
    assert.deepEqual(choose([lease('10.244.9.0-24', '192.0.2.7')]), {
      create: '10.244.1.0/24',
      obsolete: '10.244.9.0-24',
    });
  });

  it('says so when every subnet is taken', () => {
    const leases = [1, 2, 3, 4].map((third) => lease(`10.244.${third}.0-24`, `192.0.2.${third}`));
    assert.throws(
      () => choose(leases),
      (error) => isTwillError(error, 'exhausted') && /10\.244\.1\.0 to 10\.244\.4\.0/.test(error.message),
    );
  });

  it('allocates both families', () => {
    const dual = parseNetworkConfig(
      '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
    );
    assert.deepEqual(choose([], identity(), { config: dual }), {
      create: '10.244.1.0/24,fd00:0:0:1::/64',
      obsolete: '',
    });
  });

  it('keeps the subnet of a family that was there before when another family comes', () => {
    const dual = parseNetworkConfig(
      '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48","Backend":{"Type":"vxlan"}}',
    );
    const own = lease('10.244.3.0-24', '192.0.2.7', '02:00:00:00:00:07');
    assert.deepEqual(choose([own], identity(), { config: dual }), {
      create: '10.244.3.0/24,fd00:244:0:3::/64',
      obsolete: '10.244.3.0-24',
    });
    const taken = lease('10.244.3.0-25', '192.0.2.9');
    assert.equal(
      choose([own, taken], identity(), { config: dual }).create,
      '10.244.1.0/24,fd00:244:0:1::/64',
    );
  });
});
