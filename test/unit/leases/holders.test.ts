import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseHolders } from '../../../src/leases/plan/holders.ts';
import { type Lease, type LeaseOrder, parseLease } from '../../../src/leases/plan/lease.ts';
import { parsePrefix, prefixContains, prefixesOverlap } from '../../../src/model/address.ts';

const networks = [parsePrefix('10.244.0.0/16'), parsePrefix('fd00:244::/48')];

function lease(name: string, at: number | LeaseOrder, more: { ip?: string; mac?: string } = {}): Lease {
  const order = typeof at === 'number' ? { created: at, changed: at } : at;
  const unique = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 60_000, 7);
  const {
    ip = `192.0.${unique >> 8}.${unique & 255}`,
    mac = `02:00:00:00:${hex(unique >> 8)}:${hex(unique & 255)}`,
  } = more;
  const BackendData = { VNI: 1, VtepMAC: mac };
  const value = {
    PublicIP: ip,
    PublicIPv6: '2001:db8::1',
    BackendType: 'vxlan',
    BackendData,
    BackendV6Data: BackendData,
  };
  return parseLease(name, JSON.stringify(value), order);
}

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

function refused(leases: readonly Lease[]): Record<string, string> {
  const found = new LeaseHolders(networks).judge(leases);
  return Object.fromEntries([...found].map(([name, reasons]) => [name, [...reasons.values()].join('; ')]));
}

describe('who holds what leases claim', () => {
  const good = [
    lease('10.244.1.0-24', 10),
    lease('10.244.2.0-24', 20),
    lease('10.244.3.0-24&fd00:244:0:3::-64', 30),
  ];
  const cases: [string, Lease, RegExp][] = [
    ['a wide prefix', lease('64.0.0.0-2', 40), /64\.0\.0\.0\/2 is not in the pod network 10\.244\.0\.0\/16/],
    ['all of the pod network', lease('10.244.0.0-16', 40), /overlaps that of 10\.244\.\d\.0-24/],
    [
      'half of the pod network, before everybody else',
      lease('10.244.0.0-17', 1),
      /overlaps that of 10\.244\.\d\.0-24/,
    ],
    ['a prefix around another', lease('10.244.2.0-23', 40), /overlaps that of 10\.244\.[23]\.0-24/],
    [
      'one address in another',
      lease('10.244.2.7-32', 40),
      /10\.244\.2\.7\/32 overlaps that of 10\.244\.2\.0-24, which was there first/,
    ],
    [
      'the IPv6 subnet of another',
      lease('10.244.9.0-24&fd00:244:0:3::-64', 40),
      /fd00:244:0:3::\/64 overlaps/,
    ],
    [
      'an IPv6 prefix from elsewhere',
      lease('10.244.9.0-24&2001:db8::-32', 40),
      /2001:db8::\/32 is not in the pod network fd00:244::\/48/,
    ],
    [
      'a public IP that is a pod',
      lease('10.244.9.0-24', 40, { ip: '10.244.1.5' }),
      /public IP 10\.244\.1\.5 is in the subnet of 10\.244\.1\.0-24/,
    ],
    [
      'a MAC of another',
      lease('10.244.9.0-24', 40, { mac: '02:00:00:00:00:aa' }),
      /VTEP MAC 02:00:00:00:00:aa is that of 10\.244\.4\.0-24/,
    ],
  ];
  const all = [...good, lease('10.244.4.0-24', 35, { mac: '02:00:00:00:00:aa' })];
  for (const [what, wrong, reason] of cases)
    it(`refuses ${what}, and nothing else, in whichever order the leases are read`, () => {
      for (const leases of [
        [...all, wrong],
        [wrong, ...all],
      ]) {
        const found = refused(leases);
        assert.deepEqual(Object.keys(found), [wrong.name]);
        assert.match(found[wrong.name] ?? '', reason);
      }
    });

  it('a subnet is its first holder’s, whatever is written into either lease later', () => {
    const first = lease('10.244.7.0-24', { created: 5, changed: 90 });
    const second = lease('10.244.7.0-25', { created: 6, changed: 6 });
    assert.deepEqual(Object.keys(refused([second, first])), ['10.244.7.0-25']);
  });

  it('a MAC is that of the lease that said it first, not of the older lease', () => {
    const mac = '02:00:00:00:00:bb';
    const victim = lease('10.244.7.0-24', 50, { mac });
    const older = lease('10.244.8.0-24', { created: 5, changed: 60 }, { mac });
    assert.deepEqual(Object.keys(refused([older, victim])), ['10.244.8.0-24']);
  });

  it('a public IP in the pod network keeps later leases away from it', () => {
    const node = lease('10.244.7.0-24', 5, { ip: '10.244.8.8' });
    const later = lease('10.244.8.0-24', 6);
    assert.match(
      refused([later, node])['10.244.8.0-24'] ?? '',
      /has the public IP of 10\.244\.7\.0-24 in it/,
    );
  });

  it('what the one had who is gone, the next may have', () => {
    const holders = new LeaseHolders(networks);
    const first = lease('10.244.7.0-24', 5);
    const second = lease('10.244.7.0-25', 6);
    assert.equal(holders.judge([first, second]).size, 1);
    assert.equal(holders.replace(first, undefined), false);
    assert.equal(holders.judge([second]).size, 0);
  });
});

describe('thousands of random leases', () => {
  let seed = 12_345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >> 8) % below;
  };

  it('whoever holds something holds it alone, and nobody is refused without a reason', () => {
    for (let round = 0; round < 60; round++) {
      const leases = Array.from({ length: 60 }, (_, index) => {
        const length = [24, 24, 24, 24, 26, 22, 32][random(7)]!;
        const subnet = parsePrefix(`10.244.${random(40)}.${random(256)}/${length}`);
        const name = `${subnet.address.text}-${length}`;
        const order = { created: 1 + index, changed: 100 + random(200) };
        return lease(name, order, {
          ...(random(5) === 0 ? { ip: `10.244.${random(40)}.9` } : {}),
          ...(random(3) === 0 ? { mac: `02:00:00:00:ff:${hex(random(30))}` } : {}),
        });
      });
      const unique = [...new Map(leases.map((one) => [one.name, one])).values()];
      const found = new LeaseHolders(networks).judge(unique);
      const accepted = unique
        .filter(({ name }) => !found.has(name))
        .map(({ name, families }) => ({ name, ...families[0]! }));
      assert.ok(accepted.length > 5);
      for (const a of accepted)
        for (const b of accepted) {
          assert.ok(!prefixContains(a.subnet, b.publicIp), `${a.name} ${b.name}`);
          if (a === b) continue;
          assert.ok(!prefixesOverlap(a.subnet, b.subnet), `${a.name} ${b.name}`);
          assert.notEqual(a.vtepMac, b.vtepMac);
        }
      const shuffled = [...unique].sort(() => random(3) - 1);
      assert.deepEqual(
        [...new LeaseHolders(networks).judge(shuffled).keys()].sort(),
        [...found.keys()].sort(),
      );
    }
  });
});
