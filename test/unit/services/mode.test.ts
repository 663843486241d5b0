import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { foreignJump } from '../../../src/services/iptables/plan/foreign-jumps.ts';
import { chooseMode, type FamilyFacts } from '../../../src/services/plan/mode.ts';

const fit: FamilyFacts = { family: 'ipv4', lacks: [], hasIptables: true, obstacles: [] };
const fit6: FamilyFacts = { ...fit, family: 'ipv6' };
const lacks = ['nft 1.0.1 does not know th', 'Linux 5.4 does not know ranges'];

describe('--proxy-mode=auto comes to', () => {
  const rows: readonly [name: string, families: readonly FamilyFacts[], mode: string, reason: RegExp][] = [
    ['nftables where nothing stands against it', [fit, fit6], 'nftables', /can do all of it/],
    ['nftables without iptables', [{ ...fit, hasIptables: false }], 'nftables', /can do all of it/],
    [
      'iptables where nftables lacks something',
      [{ ...fit, lacks }, fit6],
      'iptables',
      /ipv4 here: nft 1\.0\.1 does not know th \(and 1 more\)$/,
    ],
    ['iptables where it lacks it in IPv6 alone', [fit, { ...fit6, lacks }], 'iptables', /serve ipv6 here/],
    [
      'nftables where neither can do IPv6',
      [fit, { ...fit6, lacks, hasIptables: false }],
      'nftables',
      /can do all of it/,
    ],
    ['iptables where the node needs it', [fit, { ...fit6, obstacles: ['a', 'b'] }], 'iptables', /^a$/],
  ];
  for (const [name, families, mode, reason] of rows)
    test(name, () => {
      const choice = chooseMode(undefined, families);
      assert.equal(choice.mode, mode);
      assert.match(choice.reason, reason);
    });
  test('iptables where the configuration wants what that alone has', () => {
    assert.deepEqual(chooseMode('a wish', [fit]), { mode: 'iptables', reason: 'a wish' });
  });
});

test('chains of others that lead to the proxy’s are seen, and neither its own nor the kernel’s', () => {
  const own = [
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A KUBE-SVC-ERIFXISQEP7F7OF4 ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -j KUBE-MARK-MASQ',
    '-A CNI-DN-0123456789abcdef -p tcp -j CNI-HOSTPORT-SETMARK',
    '-A KUBE-XLB-OLD -j KUBE-MARK-DROP',
  ];
  assert.equal(foreignJump(own.join('\n')), undefined);
  const foreign = '-A CNI-DN-0123456789abcdef -s 10.244.1.0/24 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ';
  assert.deepEqual(foreignJump([...own, foreign].join('\n')), {
    from: 'CNI-DN-0123456789abcdef',
    to: 'KUBE-MARK-MASQ',
  });
});
