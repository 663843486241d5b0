// Newer versions of Node say on standard error what older ones say only when asked to (`--pending-deprecation`), so that
// what a newer Node would put into the logs is seen under any.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { root, twillProgram } from '../../lab/files.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';
import { waitFor } from '../../lab/wait.ts';

describe('no command uses what Node has deprecated', () => {
  let namespace: Namespace;
  let folder: string;
  let kubeconfig: string;

  before(async () => {
    namespace = await makeNamespace('node');
    await namespace.ip('link add eth0 type bridge', 'addr add 192.0.2.11/24 dev eth0', 'link set eth0 up');
    await namespace.ip('route add default via 192.0.2.1');
    folder = mkdtempSync(join(tmpdir(), 'twill-deprecations-'));
    const api = await NamespacedKubeApi.start(namespace);
    api.send({ put: [{ kind: 'Node', metadata: { name: 'node1' } }] });
    kubeconfig = join(folder, 'kubeconfig');
    const config = {
      clusters: [{ name: 'one', cluster: { server: api.url } }],
      users: [{ name: 'one', user: { token: 'secret' } }],
      contexts: [{ name: 'one', context: { cluster: 'one', user: 'one' } }],
      'current-context': 'one',
    };
    writeFileSync(kubeconfig, JSON.stringify(config));
    writeFileSync(join(folder, 'net-conf.json'), '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
  });
  after(async () => {
    await namespace.remove();
    rmSync(folder, { recursive: true });
  });

  const agent = (...flags: string[]): string[] => {
    const subnetFile = `--subnet-file=${join(folder, 'subnet.env')}`;
    const socket = `--cni-socket=${join(folder, 'cni.sock')}`;
    return ['agent', '--healthz-port=0', `--state-dir=${folder}`, subnetFile, socket, ...flags];
  };

  /** Runs a command until it has said something, or else until its end. @returns its standard error */
  async function said(args: readonly string[], enough?: RegExp): Promise<string> {
    const child = namespace.spawn(process.execPath, ['--pending-deprecation', twillProgram, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NODE_NAME: 'node1' },
    });
    let text = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const closed = once(child, 'close');
    if (enough !== undefined) {
      await waitFor(`${args[0]} to say it`, () => enough.test(text), { explain: () => text });
      child.kill();
    }
    await closed;
    return text;
  }

  const cases: readonly (readonly [name: string, args: () => readonly string[], enough?: RegExp])[] = [
    ['agent with etcd', () => agent('--etcd-endpoints=http://127.0.0.1:1'), /will retry/],
    [
      'agent with Kubernetes',
      () =>
        agent(
          '--kube-subnet-mgr',
          `--kubeconfig-file=${kubeconfig}`,
          `--net-config-path=${join(folder, 'net-conf.json')}`,
        ),
      /podCIDR/,
    ],
    [
      'proxy with Kubernetes',
      () => ['proxy', `--kubeconfig=${kubeconfig}`, '--hostname-override=node1'],
      /"proxy starts"/,
    ],
    ['proxy with files', () => ['proxy', `--manifests=${folder}`], /"proxy starts"/],
    ['pods', () => ['pods', `--cni-socket=${join(folder, 'nobody.sock')}`]],
    ['install-cni', () => ['install-cni', `--cni-bin-dir=${folder}`, `--cni-conf-dir=${folder}`]],
    ['--help', () => ['--help']],
  ];
  for (const [name, args, enough] of cases) {
    it(name, async () => {
      assert.doesNotMatch(await said(args(), enough), /DeprecationWarning/);
    });
  }

  it('and no switch hides it', () => {
    for (const file of ['dist/main.js', 'Dockerfile', 'daemonset.yaml'])
      assert.doesNotMatch(
        readFileSync(join(root, file), 'utf8'),
        /no-?deprecation|no-?warnings|NODE_OPTIONS/i,
        file,
      );
  });
});
