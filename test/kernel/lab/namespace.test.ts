import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listNamespaces, ownerDirectory } from '../../lab/cleanup.ts';
import { makeNamespace, withNamespace } from '../../lab/namespace.ts';

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

test('a namespace has its loopback up and nothing of the machine', async () => {
  await withNamespace('fresh', async (namespace) => {
    const links = JSON.parse(await namespace.exec('ip', ['-json', 'link'])) as {
      ifname: string;
      flags: string[];
    }[];
    assert.equal(links.find((link) => link.ifname === 'lo')?.flags.includes('UP'), true);
    assert.equal(
      links.some((link) => link.ifname === 'eth0'),
      false,
    );
  });
});

test('a namespace is removed with its processes, also when the work fails', async () => {
  let path = '';
  let exited: Promise<unknown> | undefined;
  const failure = withNamespace('failing', async (namespace) => {
    path = namespace.path;
    const child = namespace.spawn('sleep', ['1000']);
    exited = once(child, 'exit');
    await once(child, 'spawn');
    throw new Error('the work failed');
  });
  await assert.rejects(failure, /the work failed/);
  await exited;
  assert.equal(existsSync(path), false);
});

test('exec passes input on and reports the standard error of what failed', async () => {
  const namespace = await makeNamespace();
  assert.equal(await namespace.exec('cat', [], { input: 'text' }), 'text');
  await assert.rejects(namespace.exec('ip', ['link', 'show', 'absent']), /does not exist/);
  await namespace.remove();
  await namespace.remove();
});

test('everything goes when the owner is killed', async () => {
  const script = `
    const { makeNamespace } = await import(${JSON.stringify(new URL('../../lab/namespace.js', import.meta.url).href)});
    const { sharedGuard } = await import(${JSON.stringify(new URL('../../lab/guard.js', import.meta.url).href)});
    const namespace = await makeNamespace();
    namespace.spawn('sleep', ['1000']);
    console.log((await sharedGuard()).id);
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk] = (await once(owner.stdout, 'data')) as [Buffer];
  const id = chunk.toString().trim();
  assert.equal(listNamespaces(id).length, 1);
  owner.kill('SIGKILL');
  await until(() => listNamespaces(id).length === 0 && !existsSync(ownerDirectory(id)));
});
