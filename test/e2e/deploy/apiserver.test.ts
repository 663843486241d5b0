import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runChecked } from '../../../src/kernel/process.ts';
import { nodeObject } from '../../lab/deployment.ts';
import { root } from '../../lab/files.ts';
import { Lab } from '../../lab/lab.ts';
import { parseManifests } from '../../lab/manifests.ts';
import { patchCases, patchType } from '../../lab/patch-cases.ts';
import { kubeAssets } from '../../lab/real/assets.ts';
import { KubeApiServer } from '../../lab/real/kube-apiserver.ts';
import { checkAdmission, type Patch } from './admission.ts';

const assets = kubeAssets(process.env);

/** Checked strictly: no unknown field, no warning. */
function checks(): void {
  let lab: Lab;
  let api: KubeApiServer;

  before(async () => {
    lab = await Lab.start({ nodes: 2, underlay: 'ipv4', networkConfig: null });
    api = await KubeApiServer.start(lab, assets!);
    await api.applyFile('daemonset.yaml');
    for (const [index, node] of lab.nodes.entries()) {
      const object = { apiVersion: 'v1', ...nodeObject(node, index + 1) } as { status?: object };
      await api.must('POST', '/api/v1/nodes', object);
      const type = 'application/merge-patch+json';
      await api.must('PATCH', `/api/v1/nodes/${node.name}/status`, { status: object.status }, { type });
    }
  });
  after(() => lab.stop());

  it('takes daemonset-cleanup.yaml and every overlay as they are', async () => {
    await api.applyFile('daemonset-cleanup.yaml');
    for (const overlay of ['agent-only', 'etcd', 'in-place-of-kube-proxy']) {
      const text = await runChecked('kubectl', ['kustomize', join(root, 'manifests', overlay)]);
      await api.apply(...parseManifests(text));
    }
    // What the last one says of objects that several have.
    await api.applyFile('daemonset.yaml');
  });

  it('says of patches what the tests’ own API server says', async () => {
    const requests = patchCases.map((one) => {
      const path = `/api/v1/nodes/node2${one.main === undefined ? '/status' : ''}`;
      return { ...api.request('PATCH', path, undefined, { type: patchType(one) }), body: one.body };
    });
    for (const [index, { status, text }] of (await api.callAll(requests)).entries()) {
      const { body, code } = patchCases[index]!;
      assert.equal(status, code, `${body.slice(0, 200)}: ${text.slice(0, 500)}`);
    }
  });

  it('an agent’s token changes only the Node that its pod is on, and of it only what the agent writes', async () => {
    const [agent, proxy] = await Promise.all(
      ['twill-agent', 'twill-proxy'].map((account) => api.tokenOf(account, 'node1')),
    );
    const send = (patches: readonly Patch[]) =>
      api.callAll(
        patches.map(({ token, node, body, type }) =>
          api.request('PATCH', `/api/v1/nodes/${node}/status`, body, { type, token }),
        ),
      );
    // The API server takes a policy up a moment after it was made.
    await lab.waitFor('the policy', async () => {
      const type = 'application/merge-patch+json';
      const patch = { token: agent!, node: 'node1', body: { metadata: { labels: { a: 'b' } } }, type };
      return (await send([patch]))[0]!.status === 422;
    });
    await checkAdmission({ send, tokens: { agent: agent!, proxy: proxy! } });
  });
}

if (assets === undefined)
  process.stdout.write(
    'NOT RUN: the manifests with a real kube-apiserver; set TEST_ASSET_KUBE_APISERVER for it\n',
  );
else describe('a real kube-apiserver', checks);
