import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NETLINK_NETFILTER } from '../../../src/kernel/netlink/constants.ts';
import { writeElementsRequest } from '../../../src/kernel/netlink/nftables.ts';
import { type Change, RtSocket } from '../../../src/kernel/netlink/socket.ts';
import { inNetns } from '../../../src/kernel/netns.ts';
import { applyNft, listNftTable, removeNftTable } from '../../../src/kernel/nft.ts';
import { commonNeeds, mapNeeds, nftLacks } from '../../../src/kernel/nft-needs.ts';
import { openNftTable } from '../../../src/kernel/nft-table.ts';
import { ipv4 } from '../../../src/model/address.ts';
import { packNumber } from '../../../src/services/nftables/plan/pack.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { whileNftLacks } from '../../lab/refusing-nft.ts';
import { waitFor } from '../../lab/wait.ts';

/** What nft 1.0.6 says on Debian's kernel 6.1 without the module nf_tables. */
const withoutTables = 'netlink: Error: cache initialization failed: Invalid argument';

/** Runs `work` while nft fails with these words. */
async function whileNftSays(words: string, work: () => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'twill-nft-'));
  writeFileSync(join(folder, 'nft'), `#!/bin/sh\necho '${words}' >&2\nexit 1\n`, { mode: 0o755 });
  const path = process.env.PATH;
  process.env.PATH = `${folder}:${path}`;
  try {
    await work();
  } finally {
    process.env.PATH = path;
    rmSync(folder, { recursive: true });
  }
}

test('a kernel without nf_tables has no tables to list or remove, and takes none', async () => {
  await whileNftSays(withoutTables, async () => {
    assert.equal(await listNftTable({ nft: 'ip' }, 'flannel-ipv4'), undefined);
    assert.equal(await removeNftTable({ nft: 'inet' }, 'twill-peers'), false);
    await assert.rejects(applyNft('add table ip x'), /nft refused the rules: .*cache initialization/);
  });
});

test('other failures of nft are none of that', async () => {
  await whileNftSays('netlink: Error: cache initialization failed: Operation not permitted', async () => {
    await assert.rejects(listNftTable({ nft: 'ip' }, 'x'), /failed: netlink: .*not permitted/);
    await assert.rejects(removeNftTable({ nft: 'ip' }, 'x'), /failed: netlink: .*not permitted/);
  });
});

test('a table that is another program’s alone is named as that, whoever writes into it; a set that is full will not pass', async () => {
  await withNamespace('owned', async (namespace) => {
    const apply = (document: string) => applyNft(document, { netns: namespace.name });
    await apply('add table ip full\nadd set ip full one { type mark; size 1; }');
    await assert.rejects(apply('add element ip full one { 1, 2 }'), { code: 'invalid' });

    const owner = namespace.spawn('nft', ['-i'], { stdio: ['pipe', 'ignore', 'ignore'] });
    owner.stdin!.write('add table bridge held { flags owner; }\nadd chain bridge held c\n');
    const chains = () => namespace.exec('nft', ['list', 'chains']);
    await waitFor('the table', async () => (await chains()).includes('held'));
    const message = /^nftables table bridge held has flags owner: another program [^\n]*$/;
    for (const document of ['table bridge held {\n chain d {\n }\n}', 'add rule bridge held c accept'])
      await assert.rejects(apply(`add table ip mine\n${document}`), { code: 'conflict', message });
    owner.stdin!.end();
    await waitFor('the table to go', async () => !(await chains()).includes('held'));
    await apply('table bridge held {\n chain d {\n }\n}');
  });
});

test('a long list comes in parts of more than a page: the kernel looks for each from the beginning of the set', async () => {
  await withNamespace('list', async (namespace) => {
    const count = 2000;
    const all = Array.from({ length: count }, (_, index) => `0x${(index + 1).toString(16)}`).join(', ');
    const document = `add table ip long\nadd set ip long marks { type mark; }\nadd element ip long marks { ${all} }\n`;
    await applyNft(document, { netns: namespace.name });
    const socket = inNetns(`/run/netns/${namespace.name}`, () => new RtSocket(NETLINK_NETFILTER));
    const write: Change['write'] = (to) => writeElementsRequest(to, { af: ipv4.af, name: 'long' }, 'marks');
    const parts = await socket.list({
      request: { what: 'list', write },
      read: ({ payload }) => payload.length,
    });
    socket.close();
    assert.ok(Math.max(...parts) > 16_384, `parts of ${parts.join(', ')} bytes`);
  });
});

test('a transaction may be longer than the send buffer that sockets have on a node', async () => {
  await withNamespace('long', async ({ name: netns }) => {
    await applyNft('add table ip x\nadd set ip x s { type mark; }\n', { netns });
    const table = openNftTable(ipv4, 'x', netns);
    const changes = Array.from({ length: 20 }, (_, part) => ({
      set: 's',
      deletes: false,
      elements: Array.from({ length: 250 }, (_, index) => ({
        key: packNumber(part * 250 + index),
        comment: 'c'.repeat(100),
      })),
    }));
    const usual = Number(readFileSync('/proc/sys/net/core/wmem_default', 'utf8'));
    const bytes = await table.write(changes);
    assert.ok(bytes > usual, `${bytes} bytes fit ${usual}`);
    let count = 0;
    await table.elements(
      's',
      () => {
        count = 0;
      },
      () => count++,
    );
    table.close();
    assert.equal(count, 5000);
  });
});

const fromKernel = 'x:1:1-9: Error: Could not process rule: Operation not supported';
const fromNft = 'x:1:1-9: Error: syntax error, unexpected string';

test('what nft or the kernel lacks is named, each by itself, with what has it; here nothing lacks', async () => {
  await withNamespace('lacks', async ({ name: netns }) => {
    for (const ip of ['ip', 'ip6']) {
      await whileNftLacks({ pattern: '^nonsense', says: fromNft, netns }, async () => {
        assert.deepEqual(await nftLacks(ip, ['add table ip x\ndelete table ip x\n'], mapNeeds), []);
        assert.deepEqual(
          await nftLacks(ip, ['nonsense\n', 'nonsense, too\n'], [...commonNeeds, ...mapNeeds]),
          ['nft refused the rules: x:1:1-9: Error: syntax error, unexpected string'],
        );
      });
      for (const need of [...commonNeeds, ...mapNeeds]) {
        const line = need.lines(ip).at(-1) ?? `add table ${ip} `;
        const pattern = line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
        await whileNftLacks({ pattern, says: fromKernel, netns }, async () => {
          const [lack, ...others] = await nftLacks(ip, [`${line}\n`], [need]);
          assert.deepEqual(others, []);
          assert.ok(lack!.includes(`does not know ${need.what} (Operation not supported)`), lack);
          assert.ok(lack!.includes(`Linux ${need.linux} does with module ${need.module}`), lack);
        });
      }
    }
    await whileNftLacks({ pattern: 'th dport', says: fromNft, netns }, async () => {
      const [lack, ...others] = await nftLacks('ip', ['th dport\n'], mapNeeds);
      assert.deepEqual(others, []);
      assert.match(
        lack!,
        /^nft \d\.\S+ does not know ports of whatever protocol .* nft 0\.9\.2 does: install nft/,
      );
      assert.deepEqual(await nftLacks('ip', ['th dport\n', 'add table ip x\ndelete table ip x\n'], []), []);
    });
    // nft 0.9.8 opens its standard input by name, which is a socket here.
    const says = 'internal:0:0-0: Error: Could not open file "/dev/stdin": No such device or address';
    await whileNftLacks({ pattern: '^', says, netns }, async () => {
      const [lack, ...others] = await nftLacks('ip', ['add table ip x\n'], commonNeeds);
      assert.deepEqual(others, []);
      assert.match(lack!, /^nft \d\.\S+ takes no rules from a socket: install nft 1\.0\.2 or later$/);
    });
  });
});

test('an nft that is killed, or short of something for a moment, has not refused anything', async () => {
  for (const words of ['netlink: Error: Interrupted system call', 'Error: No buffer space available'])
    await whileNftSays(words, async () => {
      await assert.rejects(applyNft('add table ip x'), { code: 'unavailable' });
    });
  await whileNftSays("'; kill -9 $$; echo '", async () => {
    await assert.rejects(applyNft('add table ip x'), { code: 'unavailable' });
  });
});
