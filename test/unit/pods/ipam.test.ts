import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAddress, parsePrefix, prefixHost } from '../../../src/model/address.ts';
import type { PodNetworkFamily } from '../../../src/model/pod-network.ts';
import { Ipam } from '../../../src/pods/ipam.ts';
import { capacity, chooseAddress } from '../../../src/pods/plan/address.ts';
import { PodStore } from '../../../src/pods/store.ts';
import { makeLog } from '../../../src/process/log.ts';

function network(subnetText: string): PodNetworkFamily {
  const subnet = parsePrefix(subnetText);
  return { family: subnet.family, network: subnet, subnet, gateway: prefixHost(subnet, 1) };
}

const cases: [
  what: string,
  subnet: string,
  used: string[],
  last: string | undefined,
  chosen: string | undefined,
][] = [
  ['the first pod gets the address behind the gateway', '10.1.2.0/24', [], undefined, '10.1.2.2'],
  ['the next one follows the last', '10.1.2.0/24', ['10.1.2.2'], '10.1.2.2', '10.1.2.3'],
  ['a freed address is not reused at once', '10.1.2.0/24', [], '10.1.2.9', '10.1.2.10'],
  ['used addresses are skipped', '10.1.2.0/24', ['10.1.2.3', '10.1.2.4'], '10.1.2.2', '10.1.2.5'],
  ['the round skips broadcast, network and gateway', '10.1.2.0/24', [], '10.1.2.254', '10.1.2.2'],
  [
    'a full subnet has none',
    '10.1.2.0/29',
    ['2', '3', '4', '5', '6'].map((n) => `10.1.2.${n}`),
    '10.1.2.4',
    undefined,
  ],
  [
    'the last free one is found',
    '10.1.2.0/29',
    ['2', '3', '5', '6'].map((n) => `10.1.2.${n}`),
    '10.1.2.5',
    '10.1.2.4',
  ],
  ['a last address of another subnet is of no use', '10.1.2.0/24', [], '10.9.9.9', '10.1.2.2'],
  ['a subnet of two addresses has no room', '10.1.2.0/31', [], undefined, undefined],
  ['IPv6 has no broadcast address', 'fd00::/126', ['fd00::2'], 'fd00::2', 'fd00::3'],
  ['IPv6 rounds past the gateway', 'fd00::/126', [], 'fd00::3', 'fd00::2'],
  ['addresses of pods outside the subnet do not count', '10.1.2.0/30', ['10.1.3.2'], undefined, '10.1.2.2'],
];

for (const [what, subnet, used, last, expected] of cases) {
  test(what, () => {
    const chosen = chooseAddress(
      network(subnet),
      new Set(used),
      last === undefined ? undefined : parseAddress(last),
    );
    assert.equal(chosen?.text, expected);
  });
}

test('a /24 has room for 253 pods, and each address is given out once a round', () => {
  const subnet = network('10.1.2.0/24');
  assert.equal(capacity(subnet), 253n);
  const given = new Set<string>();
  let last = parseAddress('10.1.2.77');
  for (let i = 0; i < 253; i++) {
    const address = chooseAddress(subnet, new Set(), last);
    assert.ok(address !== undefined && !given.has(address.text));
    given.add(address.text);
    last = address;
  }
});

test('an address that is asked for may be written as IPv4 within IPv6, as Go reads it', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-ipam-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const store = new PodStore(directory, makeLog({ level: 'fatal', format: 'json', name: 'test' }));
  const node = { families: [network('10.1.2.0/24')], mtu: 1450 };
  const [address] = new Ipam(store).reserve(node, [{ text: '::ffff:10.1.2.9/24', from: 'ips' }]);
  assert.equal(address?.text, '10.1.2.9');
});
