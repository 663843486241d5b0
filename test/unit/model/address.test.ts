import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  addressBytes,
  addressFromBytes,
  isLinkLocal,
  makePrefix,
  parseAddress,
  parseCidr,
  parseMac,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  prefixHost,
  prefixSize,
} from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';

const invalid = (error: unknown): boolean => isTwillError(error, 'invalid');

describe('address', () => {
  const canonical: [string, string][] = [
    ['10.244.0.1', '10.244.0.1'],
    ['255.255.255.255', '255.255.255.255'],
    ['fd00:0:0:0:0:0:0:1', 'fd00::1'],
    ['2001:0DB8::0001', '2001:db8::1'],
    ['::', '::'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['0:0:1::', '0:0:1::'],
    ['::ffff:c000:201', '::ffff:192.0.2.1'],
    ['::102:304', '::1.2.3.4'],
    ['::1:0', '::0.1.0.0'],
    ['::ffff:0:102:304', '::ffff:0:102:304'],
    ['::fffe:102:304', '::fffe:102:304'],
    ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
  ];
  for (const [input, text] of canonical) {
    it(`reads ${input} as ${text} and survives the way through bytes`, () => {
      const address = parseAddress(input);
      assert.equal(address.text, text);
      assert.deepEqual(addressFromBytes(addressBytes(address)), address);
    });
  }

  it('says of which one needs the interface, too: all of fe80::/10', () => {
    const needing = ['fe80::1', 'fe90::1', 'febf:ffff::'];
    assert.deepEqual(needing.map(parseAddress).filter(isLinkLocal).length, needing.length);
    for (const text of ['fe7f::1', 'fec0::1', '::1', 'fd00::1', '169.254.0.1'])
      assert.equal(isLinkLocal(parseAddress(text)), false, text);
  });

  const refused = [
    '',
    '10.244.0',
    '10.244.0.256',
    '010.0.0.1',
    '10.0.0.1 ',
    '1::2::3',
    'fe80::1%eth0',
    'fd00::g',
    'ab.c.d.e',
    '1:2',
    '1:2:3:4:5:6:7:8:9',
    '+1.2.3.4',
    '1e1.2.3.4',
    '0x1.2.3.4',
  ];
  for (const input of refused) {
    it(`refuses '${input}' and names it`, () => {
      assert.throws(
        () => parseAddress(input),
        (error: Error) => invalid(error) && error.message.includes(`'${input}'`),
      );
    });
  }
});

describe('prefix', () => {
  it('clears host bits and keeps the address as written', () => {
    const { address, prefix } = parseCidr('10.244.7.9/24');
    assert.equal(address.text, '10.244.7.9');
    assert.equal(prefix.text, '10.244.7.0/24');
    assert.equal(parsePrefix('fd00:7::9/64').text, 'fd00:7::/64');
    assert.equal(makePrefix(parseAddress('10.1.2.3'), 0).text, '0.0.0.0/0');
  });

  for (const input of [
    '10.244.0.0',
    '10.244.0.0/33',
    '10.244.0.0/x',
    '10.244.0.0/24/8',
    'fd00::/129',
    '/24',
  ]) {
    it(`refuses '${input}'`, () => assert.throws(() => parsePrefix(input), invalid));
  }

  it('counts from the front and from behind', () => {
    const prefix = parsePrefix('10.244.7.0/24');
    assert.equal(prefixHost(prefix, 1).text, '10.244.7.1');
    assert.equal(prefixHost(prefix, -1).text, '10.244.7.255');
    assert.equal(prefixSize(prefix), 256n);
    assert.throws(() => prefixHost(prefix, 256), invalid);
    assert.throws(() => prefixHost(prefix, -257), invalid);
  });

  const relations: [string, string, boolean][] = [
    ['10.244.0.0/16', '10.244.7.0/24', true],
    ['10.244.7.0/24', '10.244.0.0/16', true],
    ['10.244.6.0/24', '10.244.7.0/24', false],
    ['fd00::/8', 'fd00:7::/64', true],
    ['0.0.0.0/0', '::/0', false],
  ];
  for (const [a, b, overlap] of relations) {
    it(`${a} and ${b} ${overlap ? 'overlap' : 'do not overlap'}`, () => {
      assert.equal(prefixesOverlap(parsePrefix(a), parsePrefix(b)), overlap);
    });
  }

  it('contains its addresses only', () => {
    const prefix = parsePrefix('10.244.7.0/24');
    assert.ok(prefixContains(prefix, parseAddress('10.244.7.255')));
    assert.ok(!prefixContains(prefix, parseAddress('10.244.8.0')));
    assert.ok(!prefixContains(prefix, parseAddress('fd00::1')));
  });
});

it('writes MAC addresses in lower case and refuses others', () => {
  assert.equal(parseMac('0E:11:22:aa:BB:cc'), '0e:11:22:aa:bb:cc');
  assert.throws(() => parseMac('0e:11:22:aa:bb'), invalid);
});
