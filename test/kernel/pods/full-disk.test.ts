import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CniNode, withCniNode } from '../../lab/cni-node.ts';
import { waitFor } from '../../lab/wait.ts';

/** Gives the node's next servers a state directory on a disk of 128 KiB. @returns the disk, as seen from here */
async function useSmallDisk(node: CniNode): Promise<string> {
  node.stateDirectory = join(node.directory, 'state');
  mkdirSync(node.stateDirectory);
  // The mount is in a mount namespace of its own: it goes with the process that holds it.
  const hold = `mount -t tmpfs -o size=128k none ${node.stateDirectory} && echo held && exec sleep infinity`;
  const holder = node.namespace.spawn('unshare', ['-m', '--propagation=slave', 'sh', '-c', hold], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout!, 'data');
  node.launcher = ['nsenter', `--mount=/proc/${holder.pid}/ns/mnt`];
  return `/proc/${holder.pid}/root${node.stateDirectory}`;
}

function fill(disk: string): void {
  assert.throws(() => {
    for (let file = 0; ; file++) writeFileSync(join(disk, `filler${file}`), Buffer.alloc(4096));
  }, /ENOSPC/);
}

test('a full state directory: the agent starts, pods stay and go, a new one is refused with the reason', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    const disk = await useSmallDisk(node);
    await node.startServer();
    const [a, b] = [await node.added(), await node.added()];
    fill(disk);
    await node.stopServer('SIGKILL');
    await node.startServer();
    assert.equal((await node.records()).length, 2);
    const before = readdirSync(join(disk, 'pods')).sort();
    const c = await node.container();
    const refused = await c.call('ADD');
    assert.equal(refused.json?.code, 11, refused.stdout);
    assert.match(refused.json.msg, /cannot write '.*state\/pods\/.*no space is left/);
    assert.deepEqual(readdirSync(join(disk, 'pods')).sort(), before, 'nothing unfinished is left');
    assert.equal((await node.hostVeths()).length, 2);
    assert.equal((await a.call('CHECK', { config: { prevResult: a.result } })).status, 0);
    assert.equal((await a.call('DEL')).status, 0);
    assert.equal((await b.call('DEL')).status, 0);
    assert.deepEqual(await node.hostVeths(), []);
    assert.equal((await c.call('ADD')).status, 0, 'there is room again');
  });
});

test('a state directory that can only be read: pods stay and go, a new one is refused with the reason', async () => {
  await withCniNode(async (node) => {
    await node.stopServer();
    const disk = await useSmallDisk(node);
    await node.startServer();
    const [a, b] = [await node.added(), await node.added()];
    const remount = (how: string): Promise<string> =>
      node.namespace.exec('nsenter', [
        ...node.launcher.slice(1),
        'mount',
        '-o',
        `remount,${how}`,
        node.stateDirectory,
      ]);
    await remount('ro');
    assert.equal((await a.call('DEL')).status, 0);
    const c = await node.container();
    const refused = await c.call('ADD');
    assert.equal(refused.json?.code, 11, refused.stdout);
    assert.match(refused.json.msg, /cannot write '.*state\/pods\/.*read-only/);
    await node.stopServer('SIGKILL');
    await node.startServer('400');
    assert.equal((await b.call('CHECK', { config: { prevResult: b.result } })).status, 0);
    await a.pod.remove();
    await waitFor('the deleted pod to be forgotten again', async () => (await node.records()).length === 1);
    await remount('rw');
    assert.equal((await c.call('ADD')).status, 0);
    assert.equal((await b.call('DEL')).status, 0);
    assert.equal(readdirSync(join(disk, 'pods')).filter((name) => name.endsWith('.json')).length, 2);
  });
});

test('links in the state directory lead nowhere', async () => {
  await withCniNode(async (node) => {
    const victim = join(node.directory, 'victim');
    const { call } = await node.added();
    const pods = join(node.directory, 'pods');
    const [record = ''] = readdirSync(pods).filter((name) => name.endsWith('.json'));
    assert.equal((await call('DEL')).status, 0);
    for (const name of ['last-addresses', record, `${record}.new`])
      if (!existsSync(join(pods, name)) || name === 'last-addresses') {
        await node.namespace.exec('rm', ['-f', join(pods, name)]);
        symlinkSync(victim, join(pods, name));
      }
    assert.equal((await call('ADD')).status, 0);
    assert.equal(existsSync(victim), false, 'nothing was written through a link');
    assert.equal(JSON.parse(readFileSync(join(pods, record), 'utf8')).ifname, 'eth0');
  });
});
