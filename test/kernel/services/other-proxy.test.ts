import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { httpAnswer } from '../../lab/http.ts';
import { type Namespace, withNamespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

/** The chains and rules of table nat. */
function nat(namespace: Namespace): Promise<string> {
  return namespace.exec('iptables-nft-save', ['-t', 'nat']);
}

interface Running {
  readonly child: ChildProcess;
  readonly log: () => string;
}

function startProxy(namespace: Namespace, ...flags: readonly string[]): Running {
  const child = namespace.spawn(process.execPath, [twillProgram, 'proxy', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr!.on('data', (data) => {
    text += String(data);
  });
  return { child, log: () => text };
}

/** Resolves when it is called so: until then it is `ip`, which starts it. */
async function named(child: ChildProcess): Promise<void> {
  await waitFor('a process to have its name', () =>
    readFileSync(`/proc/${child.pid}/comm`, 'utf8').startsWith('kube-proxy'),
  );
}

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill();
  await ended;
}

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'twill-two-'));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('waits while a kube-proxy runs, says so, and takes its rules over when it ends', async () => {
  await withNamespace('two', async (namespace) => {
    await withDirectory(async (directory) => {
      const program = join(directory, 'kube-proxy');
      copyFileSync('/bin/sleep', program);
      const other = namespace.spawn(program, ['1000'], { stdio: 'ignore' });
      await named(other);
      const flags = [`--manifests=${directory}`, '--healthz-bind-address=', '--metrics-bind-address='];
      const { child, log } = startProxy(namespace, ...flags);
      await waitFor('the proxy to name the other one', () =>
        /kube-proxy \(process \d+\).*another proxy runs/.test(log()),
      );
      assert.doesNotMatch(await nat(namespace), /KUBE-/);
      await end(other);
      await waitFor('rules', async () => (await nat(namespace)).includes(':KUBE-SERVICES -'));
      const second = namespace.spawn(program, ['1000'], { stdio: 'ignore' });
      // It is looked for once per change of the rules, so it must have its name by then.
      await named(second);
      await namespace.exec('iptables-nft', ['-t', 'nat', '-F']);
      await waitFor('the proxy to name the second one', () => /stop one of the two/.test(log()));
      await waitFor('rules', async () => (await nat(namespace)).includes('-A KUBE-SERVICES '));
      await end(second);
      await end(child);
    });
  });
});

test('waits while a proxy whose process cannot be seen serves metrics, and does not clean up beside it', async () => {
  await withNamespace('two', async (namespace) => {
    await withDirectory(async (directory) => {
      const flags = [`--manifests=${directory}`, '--healthz-bind-address='];
      const first = startProxy(namespace, ...flags);
      await waitFor('rules', async () => (await nat(namespace)).includes(':KUBE-SERVICES -'));
      const second = startProxy(namespace, ...flags);
      await waitFor('the second one to name the first', () =>
        /a proxy in iptables mode \(it answers at http:.*another proxy runs/.test(second.log()),
      );
      const cleanup = await namespace.run(process.execPath, [twillProgram, 'proxy', '--cleanup']);
      assert.notEqual(cleanup.status, 0);
      assert.match(cleanup.stderr, /runs on this node: stop it first/);
      await end(first.child);
      await waitFor('the second one to go on', () => /rules in sync|proxy starts/.test(second.log()));
      await end(second.child);
    });
  });
});

test('who cannot write rules does not keep the proxy from starting, whatever name and whatever answer', async () => {
  await withNamespace('two', async (namespace) => {
    await withDirectory(async (directory) => {
      const program = join(directory, 'kube-proxy');
      copyFileSync('/bin/sleep', program);
      chmodSync(directory, 0o755);
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
      // In a user namespace of one's own one has every right, there.
      const impostors = [
        ['setpriv', ...nobody, program, '1000'],
        ['setpriv', '--bounding-set=-net_admin', program, '1000'],
        ['unshare', '--user', '--map-root-user', program, '1000'],
      ].map(([command, ...args]) => namespace.spawn(command!, args, { stdio: 'ignore' }));
      const server = `require('node:http').createServer((_, r) => r.end('iptables')).listen(10249, '127.0.0.1')`;
      impostors.push(
        namespace.spawn('setpriv', [...nobody, process.execPath, '-e', server], { stdio: 'ignore' }),
      );
      for (const impostor of impostors.slice(0, 3)) await named(impostor);
      await waitFor('an impostor to answer', async () =>
        (await httpAnswer(namespace, 10_249, '/proxyMode')).endsWith('iptables'),
      );
      const { child, log } = startProxy(namespace, `--manifests=${directory}`);
      await waitFor('rules', async () => (await nat(namespace)).includes(':KUBE-SERVICES -'));
      assert.doesNotMatch(log(), /another proxy/);
      // Its metrics wait for the port, the rules do not.
      await waitFor('word of the port', () => /cannot listen on 127\.0\.0\.1:10249/.test(log()));
      await end(child);
      for (const impostor of impostors) await end(impostor);
    });
  });
});

test('while it waits for a real one it says so on its health port', async () => {
  await withNamespace('two', async (namespace) => {
    await withDirectory(async (directory) => {
      const program = join(directory, 'kube-proxy');
      copyFileSync('/bin/sleep', program);
      const other = namespace.spawn(program, ['1000'], { stdio: 'ignore' });
      await named(other);
      const { child } = startProxy(namespace, `--manifests=${directory}`);
      const ask = (path: string): Promise<string> => httpAnswer(namespace, 10_256, path);
      await waitFor('the reason', async () =>
        /^HTTP\/1\.1 503[\s\S]*waiting for kube-proxy \(process \d+\) to end/.test(await ask('/readyz')),
      );
      assert.match(await ask('/livez'), /^HTTP\/1\.1 200/);
      await end(other);
      await waitFor('readiness', async () => (await ask('/readyz')).startsWith('HTTP/1.1 200'));
      await end(child);
    });
  });
});
