import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuardChain } from '../../../../src/services/iptables/plan/guard-chain.ts';

test('many addresses are guarded by blocks of 256, written as the kernel does', () => {
  const rows: readonly [v6: boolean, address: string, network: string][] = [
    [false, '10.96.3.7', '10.96.3.0/24'],
    [true, 'fd00:96::12ab', 'fd00:96::1200/120'],
    [true, 'fd00:96::a', 'fd00:96::/120'],
    [true, 'fd00:96::1:a', 'fd00:96::1:0/120'],
    [true, '1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:0/120'],
    // The longest run of zeros is the one at the end now.
    [true, 'fd00:1::2:0:0:5', 'fd00:1:0:0:2::/120'],
  ];
  for (const [v6, address, network] of rows) {
    const guard = new GuardChain(v6);
    for (let index = 0; index < 257; index++) {
      guard.add(v6 ? `fd77::${(index + 1).toString(16)}:1` : `10.97.${index & 255}.${index >> 8}`);
    }
    guard.add(address);
    assert.ok(guard.flush()!.split('\n').includes(`-A KUBE-GUARD -d ${network} -j DROP`), network);
  }
});
