import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CniRequest } from '../../../src/pods/cni/call.ts';
import { queueDirectory } from '../../../src/pods/cni/deletions.ts';
import { settleDeletion } from '../../../src/pods/cni/queued.ts';

test('an ADD goes on where no deletion of it is queued, and not where that cannot be known', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twill-queued-'));
  try {
    const socket = join(folder, 'cni.sock');
    const queue = queueDirectory(socket);
    const request = { containerId: 'c1', ifname: 'eth0' } as CniRequest;
    let drained = 0;
    const settle = (): Promise<void> =>
      settleDeletion(socket, request, async () => {
        drained++;
      });
    await settle();
    mkdirSync(queue);
    await settle();
    assert.equal(drained, 0);
    const call = { environment: { CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0' } };
    writeFileSync(join(queue, 'one.json'), JSON.stringify(call));
    await assert.rejects(settle(), /an earlier deletion of eth0 of c1 is not done yet/);
    assert.equal(drained, 1);
    // A link that leads to itself: nobody can read it, root neither.
    rmSync(queue, { recursive: true });
    symlinkSync('del-queue', queue);
    await assert.rejects(settle(), /cannot read '.*del-queue'/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
