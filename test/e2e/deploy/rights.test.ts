import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Deployment, startDeployment, stopDeployment } from '../../lab/deployment.ts';
import { httpAnswer } from '../../lab/http.ts';
import { podSpecOf, readManifests } from '../../lab/manifests.ts';

const manifests = readManifests('daemonset.yaml');

/** What each right is for: its pod never becomes ready without, and says which right it lacks. */
const rights: readonly (readonly [right: string, says: string])[] = [
  // First: later there is nothing to publish that is not there.
  ['twill-agent: patch nodes/status', 'cannot patch resource "nodes/status"'],
  ['twill-agent: get configmaps in kube-system', 'cannot get resource "configmaps"'],
  ['twill-agent: list nodes', 'cannot list resource "nodes"'],
  ['twill-agent: watch nodes', 'cannot watch resource "nodes"'],
  ['twill-proxy: list nodes', 'cannot list resource "nodes"'],
  ['twill-proxy: watch nodes', 'cannot watch resource "nodes"'],
  ['twill-proxy: list services', 'cannot list resource "services"'],
  ['twill-proxy: watch services', 'cannot watch resource "services"'],
  ['twill-proxy: list endpointslices', 'cannot list resource "endpointslices"'],
  ['twill-proxy: watch endpointslices', 'cannot watch resource "endpointslices"'],
];

/** A proxy that may list and not watch goes on with what it listed, as kube-proxy does, and lists again. */
const servesOn = (right: string): boolean => right.startsWith('twill-proxy: watch ');

describe('each right that daemonset.yaml grants', () => {
  let deployment: Deployment;

  before(async () => {
    deployment = await startDeployment({ manifests, nodes: 1 });
    for (const name of ['twill-agent', 'twill-proxy'])
      await deployment.runtimes[0]!.initialize(podSpecOf(manifests, name));
  });
  after(() => stopDeployment(deployment));

  it('stands here, and no other', () => {
    assert.deepEqual(rights.map(([right]) => right).sort(), deployment.access.granted());
  });

  for (const [right, says] of rights)
    it(`is needed: without “${right}” its pod says why, ${servesOn(right) ? 'with what it listed' : 'and is not ready'}`, async () => {
      const { lab, access, runtimes } = deployment;
      const pod = podSpecOf(manifests, right.split(':')[0]!);
      const [container] = pod.containers;
      const { port, path } = container!.readinessProbe!.httpGet;
      access.withheld = right;
      const started = await runtimes[0]!.start(pod, container!);
      try {
        let last = '';
        await lab.waitFor(
          'it to say why',
          async () => {
            last = await httpAnswer(lab.nodes[0]!.namespace, port, path);
            // Both escape what others said.
            const said = `${last}${started.log()}`.replaceAll('\\', '').includes(says);
            return said && (servesOn(right) || /^HTTP\/1\.1 503 /.test(last));
          },
          { explain: () => `${last}\n${started.tail()}` },
        );
      } finally {
        access.withheld = undefined;
        await started.stop();
      }
    });
});
