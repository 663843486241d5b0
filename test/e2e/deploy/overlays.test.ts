import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { root } from '../../lab/files.ts';
import { etcdPrefix, withLab } from '../../lab/lab.ts';
import { type Manifest, parseManifests, podSpecOf, readManifests } from '../../lab/manifests.ts';
import { PodRuntime } from '../../lab/pod-container.ts';

async function render(overlay: string): Promise<Manifest[]> {
  return parseManifests(await runChecked('kubectl', ['kustomize', join(root, 'manifests', overlay)]));
}

const names = (all: readonly Manifest[]): string[] =>
  all.map(({ kind, metadata: { name, namespace = '' } }) => `${kind} ${namespace}/${name}`).sort();

const sorted = (all: readonly Manifest[]): Manifest[] =>
  [...all].sort((a, b) => (names([a])[0]! < names([b])[0]! ? -1 : 1));

describe('the overlays in manifests/', () => {
  const all = readManifests('daemonset.yaml');

  it('their parts are those of daemonset.yaml', async () => {
    const { manifestParts } = (await import(join(root, 'tools/manifests.mjs'))) as {
      manifestParts: () => Record<string, string>;
    };
    for (const [name, text] of Object.entries(manifestParts()))
      assert.equal(
        readFileSync(join(root, 'manifests/parts', name, 'manifest.yaml'), 'utf8'),
        text,
        'run node tools/manifests.mjs',
      );
  });

  it('in-place-of-kube-proxy is daemonset.yaml', async () => {
    assert.deepEqual(sorted(await render('in-place-of-kube-proxy')), sorted(all));
  });

  it('agent-only is daemonset.yaml without everything of the proxy', async () => {
    const expected = all.filter(({ metadata }) => metadata.name !== 'twill-proxy');
    assert.deepEqual(sorted(await render('agent-only')), sorted(expected));
  });

  it('etcd: the agent runs from what it says with the Secret’s certificates, and needs no right in the API', async () => {
    const manifests = await render('etcd');
    const objects = names(manifests);
    assert.deepEqual(
      objects.filter((name) => /Role|Admission/.test(name)),
      ['ClusterRole /twill-proxy', 'ClusterRoleBinding /twill-proxy'],
    );
    const pod = podSpecOf(manifests, 'twill-agent');
    assert.equal(pod.automountServiceAccountToken, false);
    await withLab({ nodes: 1, underlay: 'ipv4', etcdTls: true }, async (lab) => {
      const node = lab.nodes[0]!;
      const { ca, client } = lab.etcd.certificates!;
      const files = { 'ca.crt': ca, 'tls.crt': client.certificate, 'tls.key': client.key };
      const texts = Object.entries(files).map(([name, path]) => [name, readFileSync(path, 'utf8')]);
      const edited = manifests.map((one) =>
        one.kind === 'ConfigMap' ? { ...one, data: { ...one.data, etcdEndpoints: lab.etcd.endpoint } } : one,
      );
      const runtime = new PodRuntime({
        node,
        manifests: edited,
        serviceAccount: () => ({ token: '', ca: '' }),
        apiService: { host: '10.96.0.1', port: 443 },
        secrets: { 'twill-etcd': Object.fromEntries(texts) as Record<string, string> },
      });
      await runtime.initialize(pod);
      const [container] = pod.containers;
      await runtime.probe(container!, await runtime.start(pod, container!), 'readinessProbe');
      assert.equal((await lab.etcd.keys(`${etcdPrefix}/subnets/`)).length, 1);
    });
  });
});
