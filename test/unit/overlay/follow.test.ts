import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseNetworkConfig } from '../../../src/leases/plan/network-config.ts';
import { ipv4, parseAddress, parsePrefix } from '../../../src/model/address.ts';
import { podMtu, type Underlay, whyNotOver } from '../../../src/overlay/plan/device.ts';
import { followRoutes, likelyWrong } from '../../../src/overlay/plan/egress.ts';

const v6 = { EnableIPv6: true, IPv6Network: 'fd00:244::/48' };
const config = (more: object, type = 'vxlan') =>
  parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: type }, ...more }));
const underlay = (mtu: number): Underlay => ({
  name: 'eth0',
  index: 2,
  mtu,
  addresses: new Map(),
  networks: [parsePrefix('192.0.2.0/24'), parsePrefix('2001:db8::/64')],
  carries: ['ipv4', 'ipv6'],
  why: '',
});

describe('whether a node can follow a configuration', () => {
  const cases: [string, ReturnType<typeof config>, number, RegExp | undefined][] = [
    ['usual', config({}), 1500, undefined],
    ['dual stack', config(v6), 1500, undefined],
    [
      'dual stack over too small an MTU',
      config(v6),
      1300,
      /eth0 has an MTU of 1300: at least 1350 is needed for IPv4 and IPv6/,
    ],
    ['the same without encapsulation', config(v6, 'host-gw'), 1300, undefined],
    ['without encapsulation, and too small', config(v6, 'host-gw'), 1279, /at least 1280/],
    [
      'the network between the nodes',
      config({ Network: '192.0.2.0/24' }),
      1500,
      /192\.0\.2\.0\/24 lies in 192\.0\.2\.0\/24, the network between the nodes/,
    ],
    ['the largest VNI of IPv4', config({ Backend: { Type: 'vxlan', VNI: 9_999_999 } }), 1500, undefined],
    [
      'a VNI that is too long for a name',
      config({ ...v6, Backend: { Type: 'vxlan', VNI: 10_000 } }),
      1500,
      /Backend\.VNI 10000 is too large for IPv6: the device would be flannel-v6\.10000, and names have at most 15/,
    ],
    ['around the network between the nodes', config({ Network: '192.0.0.0/16' }), 1500, undefined],
  ];
  for (const [what, network, mtu, reason] of cases)
    it(`${what}: ${reason === undefined ? 'yes' : 'no'}`, () => {
      const why = whyNotOver(underlay(mtu), network);
      if (reason === undefined) assert.equal(why, undefined);
      else assert.match(why ?? '', reason);
    });

  it('an MTU above that of the underlay is cut to what the kernel lets a VXLAN device have', () => {
    const network = config({ Backend: { Type: 'vxlan', MTU: 9000 } });
    const families = network.families.map(({ family }) => family);
    assert.equal(podMtu(families, network.backend, underlay(1500)), 1450);
  });

  it('IPv6 keeps what it needs where an underlay carries less meanwhile: Linux would take it off the devices', () => {
    const network = config(v6);
    const families = network.families.map(({ family }) => family);
    assert.equal(podMtu(families, network.backend, underlay(1400)), 1330);
    assert.equal(podMtu(families, network.backend, underlay(1300)), 1280);
    assert.equal(podMtu([ipv4], network.backend, underlay(1300)), 1250);
  });
});

describe('what nodes say of the way to them', () => {
  const chosen: Underlay = {
    ...underlay(1500),
    addresses: new Map([['ipv4', parseAddress('192.0.2.1')]]),
    carries: ['ipv4'],
  };
  const route = (device: number, mtu: number) => ({ family: 'ipv4', device, mtu }) as const;

  it('unbinds the tunnel from its device once, and does not bind it again', () => {
    const unbound = followRoutes(chosen, [route(2, 1500), route(9, 1500)]);
    assert.deepEqual(unbound.carries, []);
    assert.deepEqual(followRoutes(chosen, [route(2, 1500)], unbound).carries, []);
    assert.deepEqual(followRoutes(chosen, [route(2, 1500)]).carries, ['ipv4']);
  });

  it('makes packets no smaller than any link takes, or than pods send', () => {
    assert.equal(followRoutes(chosen, [route(2, 1500), route(2, 1400)]).mtu, 1400);
    assert.equal(followRoutes(chosen, [route(2, 60)]).mtu, 1280);
    assert.equal(followRoutes({ ...chosen, mtu: 1000 }, [route(2, 60)]).mtu, 1000);
    const both = {
      ...chosen,
      addresses: new Map([...chosen.addresses, ['ipv6', parseAddress('2001:db8::1')] as const]),
    };
    assert.equal(followRoutes(both, [route(2, 60)]).mtu, 1350);
  });
});

describe('a choice that the ways to the other nodes speak against', () => {
  const chosen: Underlay = { ...underlay(1500), addresses: new Map([['ipv4', parseAddress('10.9.0.2')]]) };
  const by = (device: number, source: string, local = false) => ({
    device,
    local,
    source: parseAddress(source),
  });
  const doubts = (...routes: ReturnType<typeof by>[]) => likelyWrong(chosen, ipv4, routes, () => 'eth7');

  it('is told where all of them are reached by another device and under another address', () => {
    const [doubt] = doubts(by(7, '192.0.2.11'), by(1, '10.9.0.2', true), by(7, '192.0.2.11'));
    assert.equal(doubt?.state, 'warning');
    assert.match(
      doubt?.detail ?? '',
      /known? this one by 10\.9\.0\.2, of eth0, .* leave by eth7 under 192\.0\.2\.11: .*set --iface=eth7/,
    );
  });

  it('is not where one is reached by it, where they are reached under its address, or where there are none', () => {
    assert.deepEqual(doubts(by(7, '192.0.2.11'), by(2, '10.9.0.2')), []);
    assert.deepEqual(doubts(by(7, '10.9.0.2')), []);
    assert.deepEqual(doubts(by(1, '10.9.0.2', true)), []);
    assert.deepEqual(doubts(), []);
  });
});
