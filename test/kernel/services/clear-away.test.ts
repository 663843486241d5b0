import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { httpAnswer } from '../../lab/http.ts';
import { withNamespace } from '../../lab/namespace.ts';
import { startProxy } from '../../lab/proxy-process.ts';
import { waitFor } from '../../lab/wait.ts';

for (const [what, table, command, warning] of [
  ['rules of the other mode that cannot be looked at', 'twill-services', 'list', 'rules of another mode'],
  [
    'rules of the other mode that cannot be deleted',
    'twill-services',
    'delete',
    'nftables table ip twill-services',
  ],
  [
    'what a kube-proxy has left that cannot be deleted',
    'kube-proxy',
    'delete',
    'nftables table ip kube-proxy',
  ],
] as const)
  test(`${what} now: it is named, and removed later`, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'twill-clear-'));
    try {
      const short = join(directory, 'short');
      writeFileSync(short, '');
      mkdirSync(join(directory, 'manifests'));
      const says = 'netlink: Error: cache initialization failed: Resource temporarily unavailable';
      const nft = `#!/bin/sh\ncase "$*" in *${command}*) [ -e ${short} ] && { echo '${says}' >&2; exit 1; };; esac\nexec /usr/sbin/nft "$@"\n`;
      mkdirSync(join(directory, 'programs'));
      writeFileSync(join(directory, 'programs/nft'), nft, { mode: 0o755 });
      await withNamespace('clear', async (node) => {
        await node.exec('nft', [`add table ip ${table}`]);
        const { child, text } = startProxy(
          node,
          [
            '--proxy-mode=iptables',
            `--manifests=${join(directory, 'manifests')}`,
            `--inspect-socket=${join(directory, 'proxy.sock')}`,
          ],
          { PATH: `${join(directory, 'programs')}:${process.env.PATH}` },
        );
        const readyz = (): Promise<string> => httpAnswer(node, 10_256, '/readyz');
        const warned = async (): Promise<boolean> =>
          new RegExp(`${warning}.*: .*Resource temporarily unavailable`).test(await readyz());
        await waitFor('the warning', warned, { explain: text });
        rmSync(short);
        const gone = async (): Promise<boolean> =>
          !(await node.exec('nft', ['list', 'tables'])).includes(table) && !(await warned());
        await waitFor('the table to go, and the warning', gone, { explain: text });
        assert.match(await readyz(), /^HTTP\/1\.1 200/);
        child.kill();
        await once(child, 'exit');
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

test('nft is not started for tables that are not there', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'twill-clear-'));
  try {
    mkdirSync(join(directory, 'manifests'));
    mkdirSync(join(directory, 'programs'));
    const asked = join(directory, 'asked');
    const nft = `#!/bin/sh\necho "$*" >>${asked}\nexec /usr/sbin/nft "$@"\n`;
    writeFileSync(join(directory, 'programs/nft'), nft, { mode: 0o755 });
    await withNamespace('clear', async (node) => {
      await node.exec('nft', ['add table inet twill-services']);
      await node.exec('nft', ['add table ip6 kube-proxy']);
      const { child, text } = startProxy(
        node,
        ['--proxy-mode=iptables', `--manifests=${join(directory, 'manifests')}`],
        { PATH: `${join(directory, 'programs')}:${process.env.PATH}` },
      );
      await waitFor('what was left to be removed', () => /had left is removed/.test(text()), {
        explain: text,
      });
      child.kill();
      await once(child, 'exit');
    });
    const calls = existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : [];
    assert.deepEqual(
      calls.filter((call) => / table /.test(call)),
      ['delete table ip6 kube-proxy'],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
