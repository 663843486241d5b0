import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from '../../../src/kernel/process.ts';
import { root } from '../../lab/files.ts';

/** The repository is mounted at /mnt, for it may lie below the /tmp that is replaced. */
const isolate = `
  mount --make-rprivate /
  mount --rbind "$1" /mnt
  mount -t tmpfs none /run
  mount -t tmpfs none /tmp
  unset TMPDIR
  ip link set lo up
  cd /mnt
  "$2" build/test/lab/demo-under-signals.js
`;

test('the demo leaves nothing behind, whenever and however it ends', async (context) => {
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const { status, stdout, stderr } = await run(
    'unshare',
    [...namespaces, 'sh', '-c', isolate, 'sh', root, process.execPath],
    { timeoutMs: 10 * 60_000 },
  );
  assert.equal(status, 0, `${stdout}${stderr}`);
  for (const line of stdout.trim().split('\n')) context.diagnostic(line);
});
