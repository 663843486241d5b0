// Newer versions of Node say on standard error what older ones say only when asked to (`--pending-deprecation`), so that
// what a newer Node would put into the logs is seen under any.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { addUplink, saidBy } from '../../lab/command.ts';
import { root, twillProgram } from '../../lab/files.ts';
import { NamespacedKubeApi } from '../../lab/kube-api-client.ts';
import { makeNamespace, type Namespace } from '../../lab/namespace.ts';

describe('no command uses what Node has deprecated', () => {
  let namespace: Namespace;
  let folder: string;
  let kubeconfig: string;

  before(async () => {
    namespace = await makeNamespace('node');
    await addUplink(namespace);
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

  const said = (args: readonly string[], enough?: RegExp): Promise<string> =>
    saidBy(namespace, ['--pending-deprecation', twillProgram, ...args], enough, { NODE_NAME: 'node1' });

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
