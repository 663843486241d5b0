import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Family, ipv4, ipv6, parsePrefix } from '../../../src/model/address.ts';
import { parseNode } from '../../../src/services/plan/node-parse.ts';
import {
  isFamilyUnnamed,
  type NodePortAddresses,
  nodePortAddresses,
  servesLoopback,
} from '../../../src/services/plan/nodeport-addresses.ts';

const own = new Map<Family, readonly string[]>([
  [ipv4, ['127.0.0.1', '192.0.2.1', '198.51.100.1', '10.244.1.1', '192.0.2.1']],
  [ipv6, ['::1', '2001:db8::1', 'fe80::1']],
]);

const node = parseNode({
  status: {
    addresses: [
      { type: 'Hostname', address: 'node1' },
      { type: 'ExternalIP', address: '198.51.100.1' },
      { type: 'ExternalIP', address: '2001:db8::1' },
      { type: 'InternalIP', address: 'no address' },
      { type: 'InternalIP', address: '192.0.2.1' },
      { type: 'InternalIP', address: '10.244.1.1' },
    ],
  },
});

function serving(wanted: NodePortAddresses, family: Family): string {
  return nodePortAddresses(wanted, family, own.get(family)!, node)?.join(' ') ?? 'all';
}

describe('addresses that serve node ports:', () => {
  const rows: readonly [flag: string, four: string, six: string, loopback: boolean][] = [
    ['192.0.2.0/24', '192.0.2.1', 'all', false],
    ['192.0.2.0/24,2001:db8::/32', '192.0.2.1', '2001:db8::1', false],
    ['203.0.113.0/24,::/0', '', 'all', false],
    ['2001:db8::/32', 'all', '2001:db8::1', true],
    ['0.0.0.0/0,192.0.2.0/24', 'all', 'all', true],
    ['127.0.0.1/32', '127.0.0.1', 'all', true],
    ['0.0.0.0/1', '10.244.1.1 127.0.0.1', 'all', true],
    ['primary', '192.0.2.1', '2001:db8::1', false],
    ['', 'all', 'all', true],
  ];
  for (const [flag, four, six, loopback] of rows) {
    test(flag === '' ? 'no flag' : flag, () => {
      const wanted =
        flag === ''
          ? undefined
          : flag === 'primary'
            ? flag
            : flag.split(',').map((text) => parsePrefix(text));
      const given = flag !== '' && flag !== 'primary';
      assert.equal(serving(wanted, ipv4), four);
      assert.equal(serving(wanted, ipv6), six);
      assert.equal(servesLoopback(wanted), loopback);
      const unnamed = (family: Family, word: RegExp) =>
        assert.equal(isFamilyUnnamed(wanted, family), given && !word.test(flag));
      unnamed(ipv4, /\./);
      unnamed(ipv6, /::/);
    });
  }
});
