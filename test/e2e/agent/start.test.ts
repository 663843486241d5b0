import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { twillProgram } from '../../lab/files.ts';
import { httpAnswer, httpStatus } from '../../lab/http.ts';
import { withLab } from '../../lab/lab.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

interface FailedStart {
  readonly what: string;
  readonly command: 'agent' | 'proxy';
  readonly flags: (directory: string) => readonly string[];
  readonly says: RegExp;
}

const agent = (what: string, flags: (directory: string) => readonly string[], says: RegExp): FailedStart => ({
  what,
  command: 'agent',
  flags,
  says,
});
const proxy = (what: string, flags: (directory: string) => readonly string[], says: RegExp): FailedStart => ({
  what,
  command: 'proxy',
  flags,
  says,
});

/** Port 7001 is taken; `file` is a file, `rubbish` one without sense; 198.51.100.9 is no address of the node. */
const failedStarts: readonly FailedStart[] = [
  agent(
    'a metrics port that is taken, after the health port',
    () => ['--healthz-port=7002', '--metrics-bind-address=127.0.0.1:7001'],
    /cannot listen on 127\.0\.0\.1:7001/,
  ),
  agent('a health port that is taken', () => ['--healthz-port=7001'], /cannot listen on :7001/),
  agent(
    'a health address that is not the node’s',
    () => ['--healthz-port=7002', '--healthz-ip=198.51.100.9'],
    /cannot listen on 198\.51\.100\.9:7002/,
  ),
  agent(
    'a metrics address that is none',
    () => ['--healthz-port=7002', '--metrics-bind-address=nonsense'],
    /'nonsense' is not an address/,
  ),
  agent('a CNI socket below a file', (directory) => [`--cni-socket=${directory}/file/cni.sock`], /file/),
  agent('a CNI socket that is a directory', (directory) => [`--cni-socket=${directory}/full`], /full/),
  agent('a state directory that is a file', (directory) => [`--state-dir=${directory}/file`], /file/),
  agent('an etcd endpoint that is none', () => ['--etcd-endpoints=http://['], /etcd-endpoints.*http:\/\/\[/),
  agent(
    'a certificate that is not there',
    (directory) => [`--etcd-cafile=${directory}/missing`],
    /--etcd-cafile .*missing/,
  ),
  agent(
    'a certificate that is none',
    (directory) => [`--etcd-cafile=${directory}/rubbish`],
    /rubbish.*cannot be used/,
  ),
  agent(
    'a password file that is not there',
    (directory) => [`--etcd-password-file=${directory}/missing`],
    /--etcd-password-file .*missing/,
  ),
  agent(
    'a password in a URL',
    () => ['--etcd-endpoints=http://root:secret@192.0.2.1:2379'],
    /'http:\/\/\*\*\*@192\.0\.2\.1:2379' is not .*--etcd-password-file/,
  ),
  proxy('a kubeconfig that is not there', (directory) => [`--kubeconfig=${directory}/missing`], /missing/),
  proxy('a kubeconfig that is none', (directory) => [`--kubeconfig=${directory}/rubbish`], /rubbish/),
  proxy('an API server that is none', () => ['--master=https://['], /'https:\/\/\[' is not of the form/),
  proxy(
    'a password in the URL of one that is none',
    () => ['--master=ftp://root:secret@192.0.2.1'],
    /'ftp:\/\/\*\*\*@192\.0\.2\.1' is not/,
  ),
  proxy(
    'a directory of manifests that is not there',
    (directory) => [`--manifests=${directory}/missing`],
    /cannot read manifests in '.*missing'/,
  ),
  proxy(
    'a health address that is none',
    (directory) => [`--manifests=${directory}/manifests`, '--healthz-bind-address=nonsense'],
    /'nonsense'/,
  ),
  proxy(
    'a metrics address that is none',
    (directory) => [`--manifests=${directory}/manifests`, '--metrics-bind-address=nonsense'],
    /'nonsense'/,
  ),
  proxy(
    'a taken port, where that is to end it',
    (directory) => [
      `--manifests=${directory}/manifests`,
      '--metrics-bind-address=127.0.0.1:7001',
      '--bind-address-hard-fail',
    ],
    /--metrics-bind-address 127\.0\.0\.1:7001 cannot be served/,
  ),
];

describe('a start that fails', () => {
  let node: Namespace;
  let directory: string;

  before(async () => {
    node = await makeNamespace('start');
    directory = join(node.directory, node.name);
    mkdirSync(join(directory, 'manifests'), { recursive: true });
    mkdirSync(join(directory, 'full', 'sub'), { recursive: true });
    for (const name of ['file', 'rubbish']) writeFileSync(join(directory, name), 'rubbish: [');
    const program = `require('node:net').createServer().listen(7001, '0.0.0.0', () => console.log('ready'))`;
    const holder = node.spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout!, 'data');
  });
  after(() => node.remove());

  for (const { what, command, flags, says } of failedStarts)
    it(`ends with a status and the reason: ${command}, ${what}`, async () => {
      const own = [
        `--cni-socket=${directory}/cni.sock`,
        `--state-dir=${directory}/state`,
        `--subnet-file=${directory}/subnet.env`,
        '--etcd-endpoints=http://127.0.0.1:1',
      ];
      const args = [command, ...(command === 'agent' ? own : []), ...flags(directory)];
      const { status, stderr } = await node.run(twillProgram, args, { timeoutMs: 20_000 });
      assert.equal(status, 1, stderr);
      assert.match(stderr, says);
      const last = stderr.trim().split('\n').at(-1)!;
      assert.match(last, /^twill: /, 'the reason is the last word');
      assert.doesNotMatch(stderr, /secret/);
    });

  it('is none for a proxy whose ports are taken: rules are written, and the ports served once they are free', async () => {
    const program = `
      const held = [10256, 10249].map((port) => require('node:net').createServer().listen(port, '0.0.0.0'));
      console.log('ready');
      process.stdin.once('data', () => process.exit());`;
    const holder = node.spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(holder.stdout!, 'data');
    const child = node.spawn(twillProgram, ['proxy', `--manifests=${directory}/manifests`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    child.stderr!.on('data', (data) => {
      log += String(data);
    });
    await waitFor('rules', async () =>
      (await node.exec('iptables-nft-save', ['-t', 'nat'])).includes(':KUBE-SERVICES '),
    );
    await waitFor('word of both', () => log.match(/cannot be served, will retry/g)?.length === 2);
    holder.stdin!.write('end');
    await waitFor('health', async () => (await httpStatus(node, 10_256, '/healthz')) === 200);
    await waitFor('metrics', async () => (await httpAnswer(node, 10_249, '/metrics')).includes('kubeproxy_'));
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null], log);
  });
});

describe('a program that hangs', () => {
  /** Told apart from all that sleep on this machine. */
  const sleeping = `sleep 1000.0${process.pid}`;
  /** Does not end, and neither does its child, which holds its output. */
  const hanging = `#!/bin/sh\ntrap "" TERM\n${sleeping} &\nwhile :; do ${sleeping}; done\n`;

  it('keeps neither agent nor proxy from ending, and ends with them', async () => {
    await withLab({ nodes: 1 }, async (lab) => {
      const node = lab.nodes[0]!;
      mkdirSync(node.programs);
      const hang = (): void => {
        for (const name of ['iptables-nft', 'iptables-nft-restore', 'iptables-legacy', 'iptables-nft-save'])
          writeFileSync(join(node.programs, name), hanging, { mode: 0o755 });
      };
      await node.startAgent(['--iptables-resync=1']);
      await node.startProxy(['--iptables-sync-period=1s']);
      await lab.waitFor(
        'the proxy',
        async () => (await httpStatus(node.namespace, 10_256, '/readyz')) === 200,
      );
      await lab.waitFor("the agent's rules", async () =>
        (await node.exec('iptables-nft', ['-t', 'nat', '-S'])).includes('FLANNEL-POSTRTG'),
      );
      hang();
      await lab.waitFor('both to hang', async () => {
        await node.exec('/usr/sbin/iptables-nft', ['-t', 'nat', '-F', 'FLANNEL-POSTRTG']);
        await node.exec('/usr/sbin/iptables-nft', ['-t', 'nat', '-F', 'KUBE-SERVICES']);
        const pattern = `${node.programs}/iptables-nft`;
        const { stdout } = await node.namespace.run('pgrep', ['-c', '-f', `^/bin/sh ${pattern}`]);
        return Number(stdout) >= 2;
      });
      await Promise.all([node.agent!.stop(), node.proxy!.stop()]);
      assert.equal(node.agent!.exitCode, 0, node.agent!.tail());
      assert.equal(node.proxy!.exitCode, 0, node.proxy!.tail());
      await lab.waitFor('nothing of it to be left', async () => {
        const { stdout } = await node.namespace.run('pgrep', [
          '-f',
          `^/bin/sh ${node.programs}|^${sleeping}`,
        ]);
        return stdout === '';
      });
    });
  });
});
