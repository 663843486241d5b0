import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guardFile, listNamespaces, ownerDirectory, startTime } from '../../lab/cleanup.ts';
import { Guard } from '../../lab/guard.ts';
import { Lab, withLab } from '../../lab/lab.ts';
import { servicePort } from '../../lab/place.ts';
import { waitFor } from '../../lab/wait.ts';

test('nodes, etcd and the client reach each other in both families', async () => {
  await withLab({ nodes: 2 }, async (lab) => {
    const [first, second] = lab.nodes;
    await Promise.all([second!.serve(), lab.client.serve()]);
    for (const family of ['ipv4', 'ipv6'] as const) {
      for (const target of [second!, lab.client]) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const request = { protocol, address: target[family], port: servicePort };
          const answer = await lab.waitFor(`${target.name} over ${protocol} and ${family}`, () =>
            first!.probe.ask(request),
          );
          assert.deepEqual(answer, { server: target.name, client: first![family] });
        }
      }
    }
    assert.match((await lab.etcd.get('/coreos.com/network/config'))!, /"Network":"10.244.0.0\/16"/);
  });
});

test('etcd keeps its data when stopped and started, and forgets its history when compacted', async () => {
  await withLab({ nodes: 0, networkConfig: null }, async (lab) => {
    await lab.etcd.put('/a', '1');
    await lab.etcd.put('/a', '2');
    await lab.etcd.stop();
    await lab.etcd.start();
    assert.deepEqual(await lab.etcd.keys('/'), [{ key: '/a', value: '2', lease: '0' }]);
    await lab.etcd.compact();
    await assert.rejects(lab.etcd.client.get('/a').revision(2).exec(), /compacted/);
    await lab.etcd.delete('/a');
    assert.equal(await lab.etcd.get('/a'), undefined);
  });
});

test('a cut link, an isolated node and a blocked etcd stop traffic until they are restored', async () => {
  await withLab({ nodes: 2 }, async (lab) => {
    const [first, second] = lab.nodes as [Lab['nodes'][number], Lab['nodes'][number]];
    await second.serve();
    const target = { protocol: 'udp', address: second.ipv4, port: servicePort, timeoutMs: 200 } as const;
    const reaches = (): Promise<unknown> => lab.waitFor('node2 to answer', () => first.probe.ask(target));
    const etcd = { protocol: 'tcp', address: '192.0.2.1', port: 2379 } as const;
    const etcdFails = async (timeoutMs = 20_000): Promise<string> =>
      await first.probe.ask({ ...etcd, timeoutMs }).then(
        () => 'answered',
        (error: Error) => error.message,
      );
    await reaches();
    await second.cutLink();
    await assert.rejects(first.probe.ask(target));
    await second.restoreLink();
    await reaches();
    await Promise.all([first.isolate(true), second.isolate(true)]);
    await assert.rejects(first.probe.ask(target));
    await Promise.all([first.isolate(false), second.isolate(false)]);
    await reaches();
    assert.equal(await etcdFails(), 'connection closed'); // etcd answers '?' by closing
    await first.blockEtcd();
    assert.equal(await etcdFails(200), 'no answer within 200 ms');
    await first.unblockEtcd();
    assert.equal(await etcdFails(), 'connection closed');
  });
});

test('two labs stand side by side', async () => {
  const labs = await Promise.all([Lab.start({ nodes: 1 }), Lab.start({ nodes: 1 })]);
  try {
    await labs[0].etcd.put('/only', 'first');
    assert.equal(await labs[1].etcd.get('/only'), undefined);
  } finally {
    await Promise.all(labs.map((lab) => lab.stop()));
  }
  for (const lab of labs) {
    assert.deepEqual(listNamespaces(lab.guard.id), []);
    assert.equal(existsSync(lab.dir), false);
  }
});

test('a lab goes when its owner is killed while it is being built', async () => {
  const script = `
    const { Lab } = await import(${JSON.stringify(new URL('../../lab/lab.js', import.meta.url).href)});
    const { listOwners, ownerDirectory } = await import(${JSON.stringify(new URL('../../lab/cleanup.js', import.meta.url).href)});
    const { readFileSync } = await import('node:fs');
    Lab.start({ nodes: 3 });
    const isOurs = (id) => {
      try {
        const [pid] = readFileSync(ownerDirectory(id) + '/guard', 'utf8').split(' ');
        return readFileSync('/proc/' + pid + '/status', 'utf8').includes('PPid:\\t' + process.pid + '\\n');
      } catch {
        return false;
      }
    };
    const timer = setInterval(() => {
      const id = listOwners().find(isOurs);
      if (id !== undefined) { clearInterval(timer); console.log(id); }
    }, 1);`;
  for (const delayMs of [0, 20, 60, 150, 400]) {
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [chunk] = (await once(owner.stdout, 'data')) as [Buffer];
    const id = chunk.toString().trim();
    await new Promise((wake) => setTimeout(wake, delayMs));
    owner.kill('SIGKILL');
    await waitFor(
      'everything of the lab to go',
      () => listNamespaces(id).length === 0 && !existsSync(ownerDirectory(id)),
    );
  }
});

test('what a lab left whose guard was killed before it is swept by the next one', async () => {
  const script = `
    const { Lab } = await import(${JSON.stringify(new URL('../../lab/lab.js', import.meta.url).href)});
    const lab = await Lab.start({ nodes: 1 });
    console.log(lab.guard.id);
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk] = (await once(owner.stdout, 'data')) as [Buffer];
  const id = chunk.toString().trim();
  const [guard] = readFileSync(join(ownerDirectory(id), guardFile), 'utf8').split(' ');
  process.kill(Number(guard), 'SIGKILL');
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  await waitFor('the guard to end', () => startTime(Number(guard)) === undefined);
  const next = await Guard.start();
  await next.close();
  assert.deepEqual(listNamespaces(id), []);
  assert.equal(existsSync(ownerDirectory(id)), false);
});
