import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openIptables } from '../../../src/kernel/iptables.ts';
import { families, ipv4 } from '../../../src/model/address.ts';
import { isTwillError } from '../../../src/model/error.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

const conflict = (error: unknown): boolean => isTwillError(error, 'conflict');

/** Writes a rule that iptables-nft cannot print. */
function spoil(namespace: Namespace, nft: string, table: string, chain: string): Promise<string> {
  return namespace.exec('nft', ['add', 'rule', nft, table, chain, 'ct', 'count', 'over', '1000', 'counter']);
}

for (const family of families) {
  test(`what ${family.iptables}-nft cannot print is not taken for empty`, () =>
    withNamespace('unread', async (namespace) => {
      const iptables = openIptables(family, 'nft', namespace.name);
      const jump = '-A POSTROUTING -m comment --comment "two words" -j OURS';
      assert.equal(await iptables.list('nat', 'OURS'), undefined);
      await iptables.restore(`*nat\n:OURS - [0:0]\n-A OURS -j RETURN\n${jump}\nCOMMIT\n`);
      assert.deepEqual(await iptables.list('nat', 'OURS'), ['-N OURS', '-A OURS -j RETURN']);
      await spoil(namespace, family.nft, 'nat', 'POSTROUTING');
      await assert.rejects(iptables.save('nat'), conflict);
      await assert.rejects(iptables.list('nat', 'POSTROUTING'), conflict);
      assert.deepEqual(await iptables.list('nat', 'OURS'), ['-N OURS', '-A OURS -j RETURN']);
      assert.equal(await iptables.list('nat', 'NOBODYS'), undefined);
      assert.equal(await iptables.has('nat', jump), true);
      assert.equal(await iptables.has('nat', '-A POSTROUTING -j RETURN'), false);
      assert.equal(await iptables.has('nat', '-A NOBODYS -j RETURN'), false);
      assert.ok((await iptables.chains('nat'))?.includes('OURS'));
      await spoil(namespace, family.nft, 'nat', 'OURS');
      await assert.rejects(iptables.list('nat', 'OURS'), conflict);
    }));
}

test('the lock of iptables-legacy is waited for, also to read', () =>
  withNamespace('locked', async (namespace) => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-lock-'));
    const lock = process.env.XTABLES_LOCKFILE!;
    const held = join(directory, 'held');
    const holder = spawn('flock', [lock, 'sh', '-c', 'touch "$0"; sleep 1', held], { stdio: 'ignore' });
    const ended = once(holder, 'exit');
    try {
      await waitFor('the lock to be held', () => existsSync(held));
      const iptables = openIptables(ipv4, 'legacy', namespace.name);
      assert.deepEqual(await iptables.list('nat', 'POSTROUTING'), ['-P POSTROUTING ACCEPT']);
      assert.equal(await iptables.has('nat', '-A POSTROUTING -j RETURN'), false);
    } finally {
      holder.kill();
      await ended;
      rmSync(directory, { recursive: true });
    }
  }));
