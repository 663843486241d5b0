import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { withCniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

/** A limit of descriptors that leaves this many to be opened: each has to be the lowest that is free. */
function limitFor(pid: number, spare: number): number {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let limit = 0;
  for (let free = 0; free < spare || open.has(limit); limit++) if (!open.has(limit)) free++;
  return limit;
}

function setLimit(pid: number, soft: number): void {
  const result = spawnSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`], { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
}

it('an ADD that runs out of descriptors at any point leaves nothing, not even for a moment after its answer', async () => {
  await withCniNode(async (node) => {
    await (await node.added()).call('DEL');
    const before = (await node.hostVeths()).sort();
    const began = (): string[] =>
      readdirSync(join(node.stateDirectory, 'pods')).filter((name) => /^veth/.test(name));
    let refused = 0;
    const containers = await Promise.all([1, 2, 3, 4].map(() => node.container({ timeoutSeconds: 3 })));
    for (let spare = 1; spare <= 14; spare++) {
      setLimit(node.serverPid, limitFor(node.serverPid, spare));
      // Whatever one of them gives back the next one takes.
      const outcomes = await Promise.all(containers.map(({ call }) => call('ADD')));
      const said = `with ${spare}: ${outcomes.map(({ stdout }) => stdout).join()}`;
      const made = outcomes.filter(({ status }) => status === 0).length;
      refused += outcomes.length - made;
      setLimit(node.serverPid, 1024);
      // A call that its executable has given up is undone a moment later.
      await waitFor(`as many devices as answers ${said}`, async () => {
        const left = (await node.hostVeths()).length - before.length;
        return left === made && began().length === made;
      });
      for (const { call } of containers) await waitFor('DEL', async () => (await call('DEL')).status === 0);
    }
    assert.ok(refused > 10, `${refused} were refused`);
    assert.deepEqual((await node.hostVeths()).sort(), before);
  });
});
